//! The function under the attribute: its signature is parsed, its body stays as it is.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Attribute, FnArg, ReturnType, Safety, Signature, Token, Visibility,
    parse::{Parse, ParseStream},
    spanned::Spanned,
};

use crate::{args::Errors, expand};

/// An async function. The body is one opaque token, so that no time is spent on parsing it and
/// nothing in it can get lost.
pub(crate) struct Item {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) body: TokenTree,
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        if input.peek(Token![struct]) || input.peek(Token![enum]) || input.peek(Token![mod]) {
            return Err(input.error("this attribute goes on an `async fn`"));
        }
        let item = Self { attrs, vis, sig: input.parse()?, body: input.parse()? };
        match &item.body {
            TokenTree::Group(_) => Ok(item),
            other => Err(syn::Error::new(other.span(), "the body of the function is missing")),
        }
    }
}

impl Item {
    /// Parses the function. The body is set aside meanwhile, because the parser would look at every
    /// token in it.
    pub(crate) fn read(tokens: TokenStream) -> syn::Result<Self> {
        let mut tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let body = match tokens.last_mut() {
            Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => {
                let mut empty = Group::new(Delimiter::Brace, TokenStream::new());
                empty.set_span(body.span());
                Some(std::mem::replace(body, empty))
            }
            _ => None,
        };
        let mut item: Self = syn::parse2(tokens.into_iter().collect())?;
        if let Some(body) = body {
            item.body = TokenTree::Group(body);
        }
        Ok(item)
    }
}

impl ToTokens for Item {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { attrs, vis, sig, body } = self;
        for attr in attrs {
            attr.to_tokens(tokens);
        }
        vis.to_tokens(tokens);
        sig.to_tokens(tokens);
        body.to_tokens(tokens);
    }
}

impl Item {
    /// Returns the return type, if there is one.
    pub(crate) fn output(&self) -> Option<&syn::Type> {
        match &self.sig.output {
            ReturnType::Default => None,
            ReturnType::Type(_, output) => Some(output),
        }
    }

    /// Records everything that keeps this function from being run as `main`; returns whether it can
    /// still be called without arguments.
    pub(crate) fn check(&self, attribute: expand::Attribute, errors: &mut Errors) -> bool {
        let sig = &self.sig;
        if sig.asyncness.is_none() {
            errors.at(
                sig.fn_token.span,
                format!(
                    "`async` is missing: write `async fn` (and if `#[tokio::{}]` stands above, delete \
                     that one: it has made this function a blocking one)",
                    attribute.name()
                ),
            );
        }
        for (span, word) in [
            sig.constness.as_ref().map(|it| (it.span(), "const")),
            match &sig.safety {
                Safety::Default => None,
                other => Some((other.span(), "unsafe")),
            },
            sig.abi.as_ref().map(|it| (it.span(), "extern")),
        ]
        .into_iter()
        .flatten()
        {
            errors.at(span, format!("the function cannot be `{word}`: delete the word"));
        }
        if !sig.generics.params.is_empty() {
            errors.at(
                sig.generics.span(),
                "the function cannot be generic: nobody could choose the types",
            );
        } else if let Some(clause) = &sig.generics.where_clause {
            errors.at(clause.span(), "the function cannot have a `where` clause: delete it");
        }
        if let Some(FnArg::Receiver(receiver)) = sig.inputs.first() {
            errors.at(
                receiver.span(),
                "the function cannot take `self`: move it out of the `impl` block",
            );
        } else if !sig.inputs.is_empty() {
            errors.at(sig.inputs.span(), self.takes_arguments(attribute));
        }
        for attr in &self.attrs {
            if is_runtime(attr) {
                errors.at(
                    attr.span(),
                    format!(
                        "`{attribute}` brings the runtime: delete this attribute (its options are \
                         options of `{attribute}`, too)"
                    ),
                );
            }
        }
        sig.inputs.is_empty() && sig.generics.params.is_empty()
    }

    fn takes_arguments(&self, attribute: expand::Attribute) -> String {
        let message = "the function is called without arguments: read them in its body, as with \
                       `std::env::args()`";
        if attribute == expand::Attribute::Main && self.sig.ident != "main" {
            let names = self.sig.inputs.iter().map(|input| match input {
                FnArg::Typed(arg) => arg.pat.to_token_stream().to_string(),
                FnArg::Receiver(_) => "self".to_owned(),
            });
            let (name, names) = (&self.sig.ident, names.collect::<Vec<_>>().join(", "));
            return format!(
                "{message}; or delete the attribute and call it from `main`: \
                 `graceful::Config::new().run(|| {name}({names}))`"
            );
        }
        message.to_owned()
    }

    /// Removes the attributes that would fight over the function.
    pub(crate) fn drop_runtimes(&mut self) {
        self.attrs.retain(|attr| !is_runtime(attr));
    }
}

/// Whether this is `#[tokio::main]`, `#[test]` or the like.
fn is_runtime(attr: &Attribute) -> bool {
    let names: Vec<_> = attr.path().segments.iter().map(|it| it.ident.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    matches!(
        *names,
        ["test"]
            | [
                "tokio" | "actix_web" | "actix_rt" | "async_std" | "smol" | "rocket" | "graceful",
                "main" | "test"
            ]
    )
}
