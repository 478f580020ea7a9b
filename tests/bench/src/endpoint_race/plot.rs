//! A plot as SVG, by hand: three lines are no reason for a library.

use std::fmt::Write as _;

/// One of them.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) color: &'static str,
    pub(crate) values: Vec<u32>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
/// Around the axes: left, right, top, bottom.
const MARGINS: (f64, f64, f64, f64) = (56.0, 16.0, 16.0, 44.0);

/// Requests that were lost, by seconds.
pub(crate) fn plot(seconds: &[u64], lines: &[Line]) -> String {
    let (left, right, top, bottom) = MARGINS;
    let most = lines.iter().flat_map(|line| &line.values).copied().max().unwrap_or(1).max(1);
    // To the next round number.
    let most = most.div_ceil(100) * 100;
    let last = seconds.last().copied().unwrap_or(1).max(1);
    #[allow(clippy::cast_precision_loss, reason = "seconds, and few")]
    let x = |second: u64| left + (WIDTH - left - right) * second as f64 / last as f64;
    let y =
        |value: u32| HEIGHT - bottom - (HEIGHT - top - bottom) * f64::from(value) / f64::from(most);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    // A `String` takes everything: nothing below can fail.
    for step in 0..=4 {
        let value = most * step / 4;
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {0:.1}H{1}\" stroke=\"#ddd\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\" fill=\"#444\">{value}</text>",
            y(value),
            WIDTH - right,
            left - 6.0,
            y(value) + 4.0
        );
    }
    for second in seconds {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#444\">{second}</text>",
            x(*second),
            HEIGHT - bottom + 16.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#444\">seconds for which the instance goes on accepting</text>",
        WIDTH / 2.0,
        HEIGHT - 8.0
    );
    for (number, line) in (0_u32..).zip(lines) {
        let points: Vec<_> = seconds
            .iter()
            .zip(&line.values)
            .map(|(second, value)| format!("{:.1},{:.1}", x(*second), y(*value)))
            .collect();
        let (color, name) = (line.color, line.name);
        // Where no line comes that falls.
        let legend = HEIGHT / 3.0 + 18.0 * f64::from(number);
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\n\
             <text x=\"{}\" y=\"{legend}\" text-anchor=\"end\" fill=\"{color}\">{name}: requests lost</text>",
            points.join(" "),
            WIDTH - right - 8.0
        );
    }
    svg + "</svg>\n"
}
