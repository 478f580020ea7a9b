//! Lines as SVG, by hand: a few of them are no reason for a library.

use std::fmt::Write as _;

/// One of them.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) color: &'static str,
    /// At each place of the x axis, from its beginning; there may be fewer.
    pub(crate) values: Vec<u32>,
}

/// Lines over the same places.
pub(crate) struct Panel<'a> {
    pub(crate) title: &'a str,
    pub(crate) x_title: &'a str,
    pub(crate) x: &'a [u64],
    pub(crate) lines: &'a [Line],
}

/// The colours of everything but the lines.
pub(crate) struct Scheme {
    background: &'static str,
    text: &'static str,
    grid: &'static str,
}

pub(crate) const LIGHT: Scheme = Scheme { background: "#fff", text: "#444", grid: "#ddd" };
#[allow(dead_code, reason = "not every plot is drawn for both")]
pub(crate) const DARK: Scheme = Scheme { background: "#0d1117", text: "#c9d1d9", grid: "#30363d" };

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
/// Around the axes: left, right, top, bottom.
const MARGINS: (f64, f64, f64, f64) = (56.0, 16.0, 34.0, 44.0);

/// Draws the panels, one below the other.
pub(crate) fn plot(panels: &[Panel<'_>], scheme: &Scheme) -> String {
    let (all, Scheme { background, text, .. }) = (HEIGHT * number(panels.len()), scheme);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {all}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"{text}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"{background}\"/>\n"
    );
    for (place, panel) in panels.iter().enumerate() {
        draw(&mut svg, panel, scheme, HEIGHT * number(place));
    }
    svg + "</svg>\n"
}

fn draw(svg: &mut String, panel: &Panel<'_>, scheme: &Scheme, down: f64) {
    let (left, right, top, bottom) = MARGINS;
    let Panel { title, x_title, x: places, lines } = panel;
    let most = lines.iter().flat_map(|line| &line.values).copied().max().unwrap_or(1).max(1);
    // To the next round number.
    let most = most.div_ceil(100) * 100;
    let last = places.last().copied().unwrap_or(1).max(1);
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let x = |place: u64| left + (WIDTH - left - right) * place as f64 / last as f64;
    let height = HEIGHT - top - bottom;
    let y = |value: u32| down + HEIGHT - bottom - height * f64::from(value) / f64::from(most);
    // A `String` takes everything: nothing below can fail.
    let _ =
        writeln!(svg, "<text x=\"{left}\" y=\"{}\" font-size=\"14\">{title}</text>", down + 20.0);
    for step in 0..=4 {
        let value = most * step / 4;
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {0:.1}H{1}\" stroke=\"{2}\"/>\
             <text x=\"{3}\" y=\"{4:.1}\" text-anchor=\"end\">{value}</text>",
            y(value),
            WIDTH - right,
            scheme.grid,
            left - 6.0,
            y(value) + 4.0
        );
    }
    // As many as there is room for.
    for place in places.iter().step_by(places.len().div_ceil(12)) {
        let below = down + HEIGHT - bottom + 16.0;
        // The last one would stand out of the picture.
        let anchor = if *place == last { "end" } else { "middle" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{below}\" text-anchor=\"{anchor}\">{place}</text>",
            x(*place)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{x_title}</text>",
        WIDTH / 2.0,
        down + HEIGHT - 8.0
    );
    for (place, line) in lines.iter().enumerate() {
        let Line { name, color, values } = line;
        let points = places.iter().zip(values);
        let points: Vec<_> =
            points.map(|(place, value)| format!("{:.1},{:.1}", x(*place), y(*value))).collect();
        let legend = down + top + 14.0 + 18.0 * number(place);
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\n\
             <text x=\"{}\" y=\"{legend}\" fill=\"{color}\">{name}</text>",
            points.join(" "),
            left + 12.0
        );
    }
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn number(count: usize) -> f64 {
    count as f64
}
