//! A bar for each, as SVG: drawn for the README.

use std::{fmt::Write as _, path::Path};

/// Writes `name.svg` and `name-dark.svg` into the folder.
pub(crate) fn draw(folder: &str, name: &str, title: &str, rows: &[(&str, u32)]) {
    for (file, dark) in [(format!("{name}.svg"), false), (format!("{name}-dark.svg"), true)] {
        std::fs::write(Path::new(folder).join(file), plot(title, rows, dark))
            .expect("it is written");
    }
}

fn plot(title: &str, rows: &[(&str, u32)], dark: bool) -> String {
    let (text, bar, own) =
        if dark { ("#c9d1d9", "#8b949e", "#3fb950") } else { ("#24292f", "#8c959f", "#1a7f37") };
    let most = rows.iter().map(|row| row.1).max().unwrap_or(1).max(1);
    let height = rows.len() * 30 + 44;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 {height}\" \
         font-family=\"sans-serif\" font-size=\"14\" fill=\"{text}\">\n\
         <text x=\"0\" y=\"18\">{title}</text>\n"
    );
    for (number, (name, count)) in rows.iter().enumerate() {
        let y = number * 30 + 36;
        let width = f64::from(*count) / f64::from(most) * 430.0;
        let color = if *name == "graceful" { own } else { bar };
        // A `String` takes everything.
        let _ = writeln!(
            svg,
            "<text x=\"92\" y=\"{0}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"100\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" fill=\"{color}\"/>\
             <text x=\"{1:.1}\" y=\"{0}\">{count}</text>",
            y + 15,
            width + 106.0
        );
    }
    svg + "</svg>\n"
}
