//! Turns the value of an option into the argument of its method on `Config`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Expr, ExprCall, ExprLit, Ident, Lit, LitStr, Path, spanned::Spanned};

use crate::{
    args::{Arg, Errors},
    duration,
    expand::Attribute,
    near::near,
    options::{CURRENT_THREAD, Choice, Kind, LOCAL, UNCATCHABLE, list},
    signal_names::SIGNAL_NAMES,
};

/// The path that the expansion calls into.
pub(crate) fn crate_path(args: &[Arg], errors: &mut Errors) -> TokenStream {
    let given = args.iter().find(|arg| arg.spec.kind == Kind::Crate);
    let path = given.and_then(|arg| errors.take(path(arg)));
    path.map_or_else(|| quote!(::graceful), ToTokens::into_token_stream)
}

fn path(arg: &Arg) -> syn::Result<Path> {
    let Arg { value, spec, .. } = arg;
    let message = || format!("not the path of a crate: write `{}`", spec.example);
    match value {
        Expr::Path(path) if path.qself.is_none() => Ok(path.path.clone()),
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
            text.parse().map_err(|_| syn::Error::new(text.span(), message()))
        }
        _ => Err(syn::Error::new(value.span(), message())),
    }
}

/// Returns the same tokens, located at `span`, so that errors about a value point at the value.
pub(crate) fn shown_at(tokens: &TokenStream, span: Span) -> TokenStream {
    let tokens = tokens.clone().into_iter().map(|mut token| {
        token.set_span(token.span().located_at(span));
        token
    });
    tokens.collect()
}

/// Returns the calls on `Config`, in the order of the options.
pub(crate) fn calls(
    args: &[Arg],
    attribute: Attribute,
    krate: &TokenStream,
    errors: &mut Errors,
) -> Vec<TokenStream> {
    check_together(args, attribute, errors);
    check_signals(args, errors);
    let settings = args.iter().filter(|arg| arg.spec.kind != Kind::Crate);
    let calls = settings.filter_map(|arg| {
        if arg.spec.name == "timeout" && string(&arg.value).is_some_and(|it| it.value() == "auto") {
            let method = Ident::new("auto_timeout", arg.key.span());
            return Some(quote!(.#method()));
        }
        let value = errors.take(value(arg, krate))?;
        let method = Ident::new(arg.spec.name, arg.key.span());
        Some(quote!(.#method(#value)))
    });
    calls.collect()
}

/// Reports options that do not fit the attribute or the flavor.
fn check_together(args: &[Arg], attribute: Attribute, errors: &mut Errors) {
    let flavor = args.iter().find(|arg| arg.spec.name == "flavor");
    let current_thread = match flavor {
        None => attribute == Attribute::Test,
        Some(arg) => {
            string(&arg.value).is_some_and(|it| [CURRENT_THREAD, LOCAL].contains(&&*it.value()))
        }
    };
    for arg in args {
        let message = match arg.spec.name {
            "signals" if attribute == Attribute::Test => {
                "a test gets no signals: delete this, and call `graceful::stop()`".to_owned()
            }
            "dump" if attribute == Attribute::Test => {
                "a test gets no signals: delete this, and look at `Handle::in_flight`".to_owned()
            }
            "lame_duck" if attribute == Attribute::Test => {
                "a test gets no signals: delete this, and call `Handle::lame_duck`".to_owned()
            }
            name @ ("upgrade" | "upgrade_timeout" | "handover") if attribute == Attribute::Test => {
                format!("a test has no next version: delete `{name}`")
            }
            "worker_threads" if current_thread && flavor.is_none() => {
                "`worker_threads` needs several: add `flavor = \"multi_thread\"`".to_owned()
            }
            "worker_threads" if current_thread => {
                "`worker_threads` is for the flavor `multi_thread`: delete it, or the `flavor`"
                    .to_owned()
            }
            name @ ("start_paused" | "unhandled_panic") if !current_thread => {
                format!("`{name}` needs one thread: add `flavor = \"{CURRENT_THREAD}\"`")
            }
            _ => continue,
        };
        errors.at(arg.key.span(), message);
    }
}

/// Reports signals that would have two meanings.
fn check_signals(args: &[Arg], errors: &mut Errors) {
    let of =
        |name: &str| args.iter().find(|arg| arg.spec.name == name).map(|arg| idents(&arg.value));
    let stops = |name: &str| match of("signals") {
        Some(signals) => signals.iter().any(|signal| signal == name),
        None => SIGNAL_NAMES.iter().any(|signal| signal.is_default && signal.name == name),
    };
    // What each of these does, for messages.
    let others = [
        ("dump", "prints what is in flight"),
        ("lame_duck", "makes the program a lame duck"),
        ("upgrade", "starts the next version"),
    ];
    let mut taken: Vec<(Ident, &str, &str)> = Vec::new();
    for (name, does) in others {
        for signal in of(name).into_iter().flatten() {
            let before = taken.iter().find(|(other, of, _)| *other == signal && *of != name);
            if stops(&signal.to_string()) {
                let is_free =
                    |name: &&str| !stops(name) && !taken.iter().any(|(taken, ..)| taken == name);
                let free = ["SIGUSR1", "SIGUSR2"].into_iter().find(is_free);
                let instead = free.map_or(String::new(), |free| format!("take `{free}`, or "));
                let message =
                    format!("`{signal}` starts the drain: {instead}leave it out of `signals`");
                errors.at(signal.span(), message);
            } else if let Some((_, other, does)) = before {
                let message = format!("`{signal}` {does}: leave it out of `{other}`");
                errors.at(signal.span(), message);
            }
            taken.push((signal, name, does));
        }
    }
}

/// Returns the elements of a list that are names.
fn idents(value: &Expr) -> Vec<Ident> {
    let Expr::Array(array) = value else { return Vec::new() };
    let ident = |element: &Expr| match element {
        Expr::Path(path) => path.path.get_ident().cloned(),
        _ => None,
    };
    array.elems.iter().filter_map(ident).collect()
}

fn value(arg: &Arg, krate: &TokenStream) -> syn::Result<TokenStream> {
    let Arg { spec, value, .. } = arg;
    let wrong = |what: &str| {
        let message = format!("`{}` takes {what}: write `{}`", spec.name, spec.example);
        syn::Error::new(value.span(), message)
    };
    match spec.kind {
        Kind::Duration | Kind::Limit => limit(arg, krate),
        Kind::Signals => {
            signals(arg, krate).map_err(|error| error.unwrap_or_else(|| wrong("a list of signals")))
        }
        Kind::OneOf(choices) => {
            let text = string(value).ok_or_else(|| wrong("a string"))?;
            one_of(text, choices, krate)
        }
        Kind::Count => match value {
            Expr::Lit(ExprLit { lit: Lit::Int(count), .. }) => {
                match count.base10_parse::<usize>() {
                    Ok(0) => Err(syn::Error::new(
                        count.span(),
                        format!(
                            "`{}` may not be 0: write `{}`, or leave it out",
                            spec.name, spec.example
                        ),
                    )),
                    Ok(_) => Ok(count.to_token_stream()),
                    Err(_) => Err(wrong("a number of threads")),
                }
            }
            Expr::Lit(_) => Err(wrong("an integer")),
            expression => Ok(expression.to_token_stream()),
        },
        Kind::Name => match string(value) {
            Some(text) if text.value().is_empty() => Err(wrong("a string that is not empty")),
            Some(text) => Ok(text.to_token_stream()),
            None => Err(wrong("a string")),
        },
        Kind::Path => path_of_socket(value, krate).ok_or_else(|| wrong("the path of a socket")),
        Kind::Bool => match value {
            Expr::Lit(ExprLit { lit: Lit::Bool(on), .. }) => Ok(on.to_token_stream()),
            _ => Err(wrong("`true` or `false`")),
        },
        // Not a method call: `crate_path` reads it.
        Kind::Crate => Ok(TokenStream::new()),
    }
}

/// Expands a path, or `env("NAME", "/path")`; `None` if it is something else.
fn path_of_socket(value: &Expr, krate: &TokenStream) -> Option<TokenStream> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
            (!text.value().is_empty()).then(|| text.to_token_stream())
        }
        Expr::Lit(_) => None,
        Expr::Call(call) if is_env(call, krate) => {
            let (name, default) = (string(&call.args[0])?, string(&call.args[1])?);
            Some(quote!(
                ::std::env::var_os(#name).unwrap_or_else(|| ::std::ffi::OsString::from(#default))
            ))
        }
        expression => Some(expression.to_token_stream()),
    }
}

fn string(value: &Expr) -> Option<&LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text),
        _ => None,
    }
}

/// Expands a duration, or `"none"` for a limit.
fn limit(arg: &Arg, krate: &TokenStream) -> syn::Result<TokenStream> {
    let Arg { spec, value, .. } = arg;
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => match text.value().as_str() {
            "none" if spec.kind == Kind::Limit => Ok(quote!(::core::option::Option::None)),
            "none" => Err(syn::Error::new(
                text.span(),
                format!("`{}` is no limit that could be lifted: write `\"0s\"`", spec.name),
            )),
            // That of `timeout` is a method of its own.
            "auto" => Err(syn::Error::new(
                text.span(),
                format!("only `timeout` can be `\"auto\"`: write `{}`", spec.example),
            )),
            _ => literal(text),
        },
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => {
            let digits = number.base10_digits();
            let unit = if number.suffix().is_empty() { "s" } else { number.suffix() };
            let written = format!("{digits}{unit}");
            let written =
                if duration::parse(&written).is_ok() { written } else { format!("{digits}s") };
            let message = format!("a duration is a string with a unit: write `\"{written}\"`");
            Err(syn::Error::new(number.span(), message))
        }
        Expr::Lit(ExprLit { lit: Lit::Float(number), .. }) => {
            let message = match duration::parse(&format!("{}s", number.base10_digits())) {
                Err(message) => message,
                Ok(_) => format!("`{}` takes a duration: write `{}`", spec.name, spec.example),
            };
            Err(syn::Error::new(number.span(), message))
        }
        Expr::Lit(other) => Err(syn::Error::new(
            other.span(),
            format!("`{}` takes a duration: write `{}`", spec.name, spec.example),
        )),
        Expr::Call(call) if is_env(call, krate) => env(call, krate),
        expression => Ok(expression.to_token_stream()),
    }
}

fn literal(text: &LitStr) -> syn::Result<TokenStream> {
    let duration =
        duration::parse(&text.value()).map_err(|message| syn::Error::new(text.span(), message))?;
    if duration.subsec_millis() == 0 {
        let secs = duration.as_secs();
        return Ok(quote!(::core::time::Duration::from_secs(#secs)));
    }
    // At most ten years of milliseconds.
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Ok(quote!(::core::time::Duration::from_millis(#millis)))
}

/// Whether this is `env("NAME", "3s")`: only that name with two arguments; any other call is an
/// expression. `graceful::env("NAME", "3s")`, by its path, is the runtime crate's function, which
/// takes a `Duration`, unless its default is a literal.
fn is_env(call: &ExprCall, krate: &TokenStream) -> bool {
    let Expr::Path(function) = &*call.func else { return false };
    if call.args.len() != 2 {
        return false;
    }
    let by_path = || {
        let text = |tokens: &dyn ToTokens| tokens.to_token_stream().to_string().replace(' ', "");
        let (path, krate) = (text(&function.path), text(krate));
        let krate = krate.trim_start_matches("::");
        path.trim_start_matches("::") == format!("{krate}::env")
    };
    function.path.is_ident("env") || matches!(call.args[1], Expr::Lit(_)) && by_path()
}

fn env(call: &ExprCall, krate: &TokenStream) -> syn::Result<TokenStream> {
    let form = |span: Span| {
        let message = "`env` takes the name of a variable and a default: write \
                       `env(\"GRACEFUL_TIMEOUT\", \"3s\")`";
        syn::Error::new(span, message)
    };
    let text = |value| string(value).ok_or_else(|| form(Spanned::span(value)));
    let (name, default) = (text(&call.args[0])?, text(&call.args[1])?);
    if name.value().is_empty() || name.value().contains(['=', '\0']) {
        return Err(form(name.span()));
    }
    let default = if default.value() == "none" {
        quote!(::core::option::Option::None)
    } else {
        literal(default)?
    };
    Ok(quote!(#krate::env(#name, #default)))
}

fn one_of(text: &LitStr, choices: &[Choice], krate: &TokenStream) -> syn::Result<TokenStream> {
    let word = text.value();
    let words = || choices.iter().map(|choice| choice.word);
    if let Some(choice) = choices.iter().find(|choice| choice.word == word) {
        let path = choice.path.iter().map(|name| Ident::new(name, Span::call_site()));
        return Ok(shown_at(&quote!(#krate #(::#path)*), text.span()));
    }
    let message = match near(&word, words()) {
        Some(meant) => format!("unknown value `{word}`: did you mean `\"{meant}\"`?"),
        None => format!("unknown value `{word}`: the values are {}", list(words())),
    };
    Err(syn::Error::new(text.span(), message))
}

/// Expands `[SIGTERM, SIGINT]`; `Err(None)` if it is not a list at all.
fn signals(arg: &Arg, krate: &TokenStream) -> Result<TokenStream, Option<syn::Error>> {
    let Expr::Array(array) = &arg.value else {
        return Err(None);
    };
    if array.elems.is_empty() {
        let name = arg.spec.name;
        let nothing = match name {
            "signals" => "no signal would ever start the drain",
            "upgrade" => "no signal would start the next version",
            _ => "no signal would print what is in flight",
        };
        let message = format!(
            "{nothing}: name one, as in `{}`, or leave `{name}` out for the default",
            arg.spec.example
        );
        return Err(Some(syn::Error::new(array.span(), message)));
    }
    let mut errors: Option<syn::Error> = None;
    let mut note = |error: syn::Error| match &mut errors {
        Some(all) => all.combine(error),
        None => errors = Some(error),
    };
    let mut names: Vec<(String, Ident)> = Vec::new();
    for element in &array.elems {
        match signal(element) {
            Err(error) => note(error),
            Ok(ident) => {
                let name = ident.to_string();
                if names.iter().any(|(known, _)| *known == name) {
                    let message = format!("`{name}` is listed twice: delete one");
                    note(syn::Error::new(ident.span(), message));
                }
                names.push((name, ident));
            }
        }
    }
    if let Some(errors) = errors {
        return Err(Some(errors));
    }
    let signals =
        names.iter().map(|(_, ident)| quote_spanned!(ident.span()=> #krate::Signal::#ident));
    Ok(quote!([#(#signals),*]))
}

fn signal(element: &Expr) -> syn::Result<Ident> {
    let ident = match element {
        Expr::Path(path) => path.path.get_ident().cloned(),
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
            let message = format!("signals are names without quotes: write `{}`", text.value());
            return Err(syn::Error::new(text.span(), message));
        }
        _ => None,
    };
    let Some(ident) = ident else {
        let message = format!("not a signal: the signals are {}", list(signal_names()));
        return Err(syn::Error::new(element.span(), message));
    };
    let name = ident.to_string();
    if signal_names().any(|known| known == name) {
        return Ok(ident);
    }
    let message = if UNCATCHABLE.contains(&&*name) {
        format!("no process can catch `{name}`: delete it")
    } else if let Some(meant) = near(&name, signal_names()) {
        format!("unknown signal `{name}`: did you mean `{meant}`?")
    } else if let Some(known) = signal_names().find(|known| known[3..] == name.to_uppercase()) {
        format!("unknown signal `{name}`: did you mean `{known}`?")
    } else {
        format!("unknown signal `{name}`: the signals are {}", list(signal_names()))
    };
    Err(syn::Error::new(ident.span(), message))
}

fn signal_names() -> impl Iterator<Item = &'static str> {
    SIGNAL_NAMES.iter().map(|signal| signal.name)
}
