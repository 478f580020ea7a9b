//! The attributes of `graceful-main`. Use them through that crate, as `#[graceful::main]`: their
//! documentation is there.

mod args;
mod duration;
mod expand;
mod item;
mod near;
mod options;
mod signal_names;
mod value;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod snapshots;

use proc_macro::TokenStream;

/// See `graceful::main`.
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(expand::Attribute::Main, args.into(), item.into()).into()
}

/// See `graceful::test`.
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(expand::Attribute::Test, args.into(), item.into()).into()
}
