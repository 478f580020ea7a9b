//! The attribute of `graceful-main`. Use it through that crate, as `#[graceful::main]`: its
//! documentation is there.

mod args;
mod duration;
mod expand;
mod item;
mod near;
mod options;
mod value;

use proc_macro::TokenStream;

/// See `graceful::main`.
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::main(args.into(), item.into()).into()
}
