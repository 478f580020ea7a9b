//! What the compiler says with the feature `axum` on: one idea a file, in `tests/ui_axum`.

#[test]
fn ui_axum() {
    trybuild::TestCases::new().compile_fail("ui_axum/*.rs");
}
