//! What the compiler says with the feature `axum-0-8` on: one idea a file, in `tests/ui_axum`.

#[test]
fn ui_axum() {
    trybuild::TestCases::new().compile_fail("ui_axum/*.rs");
}
