//! Whatever the attribute contains, the result is an expansion or an error, never a panic.

use proc_macro2::{Span, TokenStream};
use proptest::prelude::*;
use quote::quote;

use crate::{
    args::{self, Errors},
    duration,
    expand::{Attribute, expand},
    options::OPTIONS,
    value,
};

/// Text that is often nearly right.
fn attribute_text() -> impl Strategy<Value = String> {
    let names: Vec<_> = OPTIONS.iter().map(|spec| spec.name.to_owned()).collect();
    let piece = prop_oneof![
        4 => proptest::sample::select(names),
        2 => Just("=".to_owned()),
        2 => Just(",".to_owned()),
        1 => proptest::sample::select(
            OPTIONS.iter().map(|spec| spec.example.to_owned()).collect::<Vec<_>>()
        ),
        1 => "\"[0-9]{0,3}[a-z. ]{0,3}\"",
        1 => "[0-9]{1,25}(\\.[0-9]{1,3})?",
        1 => "\\[(SIG[A-Z]{2,5},? ?){0,3}\\]",
        1 => "[a-zA-Z_:<>!&(){}#'-]{0,6}",
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.join(" "))
}

fn item_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("async fn main() {}".to_owned()),
        "(pub |const |async |unsafe |extern \"C\" ){0,4}fn [a-z]{1,4}(<T>)?\\((self|x: u8)?\\)( -> [A-Z]{1,3})? \\{\\}",
        attribute_text(),
    ]
}

proptest! {
    #[test]
    fn never_panics_and_never_forgets_the_function(args in attribute_text(), item in item_text()) {
        // Text that is not a list of tokens never reaches the attribute.
        let (Ok(args), Ok(item)) = (args.parse::<TokenStream>(), item.parse::<TokenStream>()) else {
            return Ok(());
        };
        for attribute in [Attribute::Main, Attribute::Test] {
            let tokens = expand(attribute, args.clone(), item.clone()).to_string();
            for part in item.clone() {
                if let proc_macro2::TokenTree::Ident(name) = part {
                    let word = name.to_string();
                    let kept = tokens.contains(&word)
                        || ["const", "unsafe", "extern"].contains(&word.as_str());
                    prop_assert!(kept, "{word} is lost in {tokens}");
                }
            }
        }
    }

    #[test]
    fn errors_point_into_the_attribute(text in attribute_text()) {
        let Ok(tokens) = text.parse::<TokenStream>() else {
            return Ok(());
        };
        let mut errors = Errors::default();
        let args = args::parse(tokens.clone(), &mut errors);
        let krate = value::crate_path(&args, &mut errors);
        let _ = value::calls(&args, Attribute::Main, &krate, &mut errors);
        let Some(end) = tokens.into_iter().map(|token| token.span().end()).max_by_key(|end| {
            (end.line, end.column)
        }) else {
            return Ok(());
        };
        for error in errors.into_iter() {
            let span: Span = error.span();
            let at_the_end = format!("{span:?}") == format!("{:?}", Span::call_site());
            prop_assert!(
                at_the_end || span.end() <= end,
                "{error} at {:?}, the attribute ends at {end:?}", span.end()
            );
        }
    }

    #[test]
    fn accepted_durations_print_back_to_themselves(text in "([0-9]{1,6}(ms|s|m|h)){1,4}") {
        if let Ok(duration) = duration::parse(&text) {
            let millis = u64::try_from(duration.as_millis()).unwrap();
            // Nothing below a millisecond is lost, and no unit is taken for another.
            prop_assert_eq!(u128::from(millis), duration.as_millis());
            prop_assert_eq!(duration::parse(&duration::print(millis)), Ok(duration));
        }
    }

    #[test]
    fn no_text_panics_the_duration_parser(text in any::<String>()) {
        let _ = duration::parse(&text);
    }

    #[test]
    fn durations_expand_to_what_they_say(millis in 0u64..=10_000_000) {
        let text = duration::print(millis);
        let expanded = expand(
            Attribute::Main,
            quote!(timeout = #text),
            quote!(async fn main() {}),
        )
        .to_string();
        let said = if millis % 1_000 == 0 {
            format!("from_secs ({}u64)", millis / 1_000)
        } else {
            format!("from_millis ({millis}u64)")
        };
        prop_assert!(expanded.contains(&said), "{text}: {said} in {expanded}");
    }
}
