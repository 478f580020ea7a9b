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

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Safety, spanned::Spanned};

use crate::{
    args::{self, Errors},
    item::Item,
    value,
};

/// Expands the attribute. With any mistake the function is there all the same, and every mistake is
/// reported behind it.
pub(crate) fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = args::parse(args, &mut errors);
    let krate = value::crate_path(&args, &mut errors);
    let calls = value::calls(&args, &krate, &mut errors);
    let mut item: Item = match syn::parse2(item.clone()) {
        Ok(item) => item,
        Err(error) => {
            // Not a function, or half of one, which is being typed right now: left as it is.
            errors.push(error);
            return [item, errors.into_tokens()].into_iter().collect();
        }
    };
    let callable = item.check(&mut errors);
    if item.sig.receiver().is_some() {
        // In an `impl` block: nothing can be wrapped around it there.
        return [quote!(#item), errors.into_tokens()].into_iter().collect();
    }
    item.drop_runtimes();
    let config = if errors.is_empty() { calls } else { Vec::new() };
    let function = if callable { run(item, &krate, &config) } else { inert(item, &krate) };
    [function, errors.into_tokens()].into_iter().collect()
}

/// The function that runs the user's.
fn run(item: Item, krate: &TokenStream, calls: &[TokenStream]) -> TokenStream {
    // A return value that cannot be served is an error of the type that says so: there it is shown.
    let at = item.output().map_or_else(|| item.sig.ident.span(), Spanned::span);
    let mut name = item.sig.ident.clone();
    name.set_span(item.sig.ident.span().located_at(at));
    let call = quote!(#krate::Config::new() #(#calls)* .run(#name));
    wrap(item, krate, &call)
}

/// A function that cannot be called is kept, for the editor, and not called.
fn inert(item: Item, krate: &TokenStream) -> TokenStream {
    wrap(item, krate, &quote!(#krate::Config::new().run(async || {})))
}

fn wrap(item: Item, krate: &TokenStream, call: &TokenStream) -> TokenStream {
    let Item { attrs, vis, mut sig, body } = item;
    let name = sig.ident.clone();
    // After an error: so that the body is checked as what it was meant to be.
    sig.asyncness.get_or_insert_with(|| syn::Token![async](Span::call_site()));
    sig.constness = None;
    sig.safety = Safety::Default;
    sig.abi = None;
    quote! {
        #(#attrs)*
        #vis fn #name() -> #krate::Exit {
            #sig #body
            #call
        }
    }
}
