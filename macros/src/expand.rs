//! From arguments and function to the expansion:
//!
//! ```text
//! #[graceful::main(timeout = "3s")]          fn main() -> ::graceful::Exit {
//! async fn main() -> impl Serve {                async fn main() -> impl Serve {
//!     body                            ─▶             body
//! }                                              }
//!                                                ::graceful::Config::new()
//!                                                    .timeout(::core::time::Duration::from_secs(3u64))
//!                                                    .run(main)
//!                                            }
//! ```

use std::fmt;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Ident, Safety, punctuated::Punctuated, spanned::Spanned};

use crate::{
    args::{self, Errors},
    item::Item,
    value::{self, shown_at},
};

/// Which of the two attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    /// `#[graceful::main]`: `Config::run`.
    Main,
    /// `#[graceful::test]`: `Config::test`, by default on one thread, like `tokio::test`.
    Test,
}

impl Attribute {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#[graceful::{}]", self.name())
    }
}

/// Expands the attribute. Even after errors the function is emitted, followed by every error.
pub(crate) fn expand(attribute: Attribute, args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = args::parse(args, &mut errors);
    let krate = value::crate_path(&args, &mut errors);
    let mut calls = value::calls(&args, attribute, &krate, &mut errors);
    if attribute == Attribute::Test && !args.iter().any(|arg| arg.spec.name == "flavor") {
        calls.insert(0, quote!(.flavor(#krate::Flavor::CurrentThread)));
    }
    let mut item: Item = match Item::read(item.clone()) {
        Ok(item) => item,
        Err(error) => {
            // Not a function, or one that is still being typed: leave it as it is.
            errors.push(error);
            return [item, errors.into_tokens()].into_iter().collect();
        }
    };
    let callable = item.check(attribute, &mut errors);
    if item.sig.receiver().is_some() {
        // In an `impl` block, where nothing can be wrapped around it.
        return [quote!(#item), errors.into_tokens()].into_iter().collect();
    }
    item.drop_runtimes();
    if !errors.is_empty() {
        calls.clear();
    }
    let body = if callable { Body::Called } else { Body::Kept };
    let function = wrap(attribute, item, &krate, &calls, body);
    [function, errors.into_tokens()].into_iter().collect()
}

/// How the user's function is used.
#[derive(Clone, Copy)]
enum Body {
    Called,
    /// Cannot be called, but is kept for the editor.
    Kept,
}

fn wrap(
    attribute: Attribute,
    item: Item,
    krate: &TokenStream,
    calls: &[TokenStream],
    body_is: Body,
) -> TokenStream {
    // A return value that cannot be served is an error in the return type, so show it there.
    let at = item.output().map_or_else(|| item.sig.ident.span(), Spanned::span);
    let Item { attrs, vis, mut sig, body } = item;
    let name = sig.ident.clone();
    // After an error, keep the arguments, so that callers do not fail as well. A `main` takes none
    // in any case.
    let inputs = match body_is {
        Body::Kept if name != "main" && sig.generics.params.is_empty() => sig.inputs.clone(),
        Body::Called | Body::Kept => Punctuated::new(),
    };
    // After an error, check the body as what it was meant to be.
    sig.asyncness.get_or_insert_with(|| syn::Token![async](Span::call_site()));
    sig.constness = None;
    sig.safety = Safety::Default;
    sig.abi = None;
    let (marker, output, method) = match attribute {
        Attribute::Main => (None, quote!(-> #krate::Exit), "run"),
        Attribute::Test => {
            let output = &sig.output;
            (Some(quote!(#[::core::prelude::v1::test])), quote!(#output), "test")
        }
    };
    let method = Ident::new(method, Span::call_site());
    let run = match body_is {
        Body::Called => shown_at(&quote!(.#method(#name)), at),
        Body::Kept => quote!(.#method(async || ::core::unimplemented!())),
    };
    // They belong to a function that is not called.
    let unused = (!inputs.is_empty()).then(|| quote!(#[allow(unused_variables)]));
    quote! {
        #marker
        #unused
        #(#attrs)*
        #vis fn #name(#inputs) #output {
            #sig #body
            #krate::Config::new() #(#calls)* #run
        }
    }
}
