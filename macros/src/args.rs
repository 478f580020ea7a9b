//! Parses the tokens of the attribute into a list of arguments, without stopping at errors.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Expr, Ident, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser},
};

use crate::{
    near::near,
    options::{OPTIONS, Spec, find, list},
};

/// `key = value`, with a key from the table.
pub(crate) struct Arg {
    pub(crate) spec: &'static Spec,
    pub(crate) key: Ident,
    pub(crate) value: Expr,
}

/// All errors of one pass, in the order in which they were found.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub(crate) fn at(&mut self, span: Span, message: impl std::fmt::Display) {
        self.push(syn::Error::new(span, message));
    }

    /// Returns the value, or records the error.
    pub(crate) fn take<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    #[cfg(test)]
    pub(crate) fn into_iter(self) -> impl Iterator<Item = syn::Error> {
        self.0.into_iter().flatten()
    }

    pub(crate) fn into_tokens(self) -> TokenStream {
        self.0.map(syn::Error::into_compile_error).unwrap_or_default()
    }
}

/// Parses `key = value, …`.
pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Vec<Arg> {
    let mut args: Vec<Arg> = Vec::new();
    let read = |input: ParseStream<'_>| {
        while !input.is_empty() {
            match argument(input) {
                Ok(Some(arg)) => add(&mut args, arg, errors),
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
            skip_to_comma(input, errors);
        }
        Ok(())
    };
    if let Err(error) = read.parse2(tokens) {
        errors.push(error);
    }
    args
}

/// Parses one argument. An unknown one is an error; its value is then skipped by the caller.
fn argument(input: ParseStream<'_>) -> syn::Result<Option<Arg>> {
    if !input.peek(Ident::peek_any) {
        let message =
            format!("an option is missing here; options look like `{}`", OPTIONS[0].example);
        return Err(input.error(message));
    }
    let key = input.call(Ident::parse_any)?;
    let name = key.unraw().to_string();
    let Some(spec) = find(&name) else {
        return Err(unknown(&key, &name));
    };
    if input.is_empty() || input.peek(Token![,]) || !input.peek(Token![=]) {
        let message = format!("`{name}` needs a value: write `{}`", spec.example);
        return Err(syn::Error::new(key.span(), message));
    }
    input.parse::<Token![=]>()?;
    if input.is_empty() || input.peek(Token![,]) {
        let message = format!("`{name}` needs a value: write `{}`", spec.example);
        return Err(syn::Error::new(key.span(), message));
    }
    let mut value = input.parse()?;
    // A fragment from a `macro_rules!` comes in an invisible group.
    while let Expr::Group(group) = value {
        value = *group.expr;
    }
    Ok(Some(Arg { spec, key, value }))
}

fn unknown(key: &Ident, name: &str) -> syn::Error {
    let names = || OPTIONS.iter().map(|spec| spec.name);
    let meant = match name {
        // Names that other crates use.
        "core_threads" | "threads" => Some("worker_threads"),
        "grace" | "limit" => Some("timeout"),
        "signal" => Some("signals"),
        _ => near(name, names()),
    };
    let message = match meant {
        Some(meant) => format!("unknown option `{name}`: did you mean `{meant}`?"),
        None => format!("unknown option `{name}`: the options are {}", list(names())),
    };
    syn::Error::new(key.span(), message)
}

fn add(args: &mut Vec<Arg>, arg: Arg, errors: &mut Errors) {
    match args.iter().find(|known| known.spec.name == arg.spec.name) {
        None => args.push(arg),
        Some(first) => {
            let name = arg.spec.name;
            errors.at(arg.key.span(), format!("`{name}` is given twice: delete this one"));
            errors.at(first.key.span(), format!("`{name}` is given here first"));
        }
    }
}

/// Skips the rest of a broken argument; reports a missing comma between two.
fn skip_to_comma(input: ParseStream<'_>, errors: &mut Errors) {
    if !input.is_empty() && !input.peek(Token![,]) && errors.is_empty() {
        errors.push(input.error("a comma is missing before this"));
    }
    while !input.is_empty() && !input.peek(Token![,]) {
        // There is a token, so this cannot fail.
        let _ = input.parse::<TokenTree>();
    }
    // At the end, there is none, which is fine.
    let _ = input.parse::<Option<Token![,]>>();
}
