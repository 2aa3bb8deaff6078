//! Line plots as SVG, drawn without a library: axes, a legend, and one path for each series.

use std::fmt::Write as _;

/// A plot.
pub struct Plot {
    /// Above it.
    pub title: &'static str,
    /// Below the horizontal axis.
    pub x_label: &'static str,
    /// What the vertical axis counts.
    pub y_label: &'static str,
    /// Of the horizontal axis, from the left; where, between 0 and 1, and what stands there.
    pub x_ticks: Vec<(f64, String)>,
    /// Whether the vertical axis is logarithmic.
    pub log_y: bool,
    /// The lines: name, and points from the left, x between 0 and 1.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
    /// What stands in place of the plot if there is nothing to plot.
    pub nothing: &'static str,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
/// The legend is above the plot, in as many rows as it needs.
const LEGEND_COLUMNS: usize = 6;
const LEGEND_ROW: f64 = 15.0;
/// A line of fewer points has a dot for each, which tells its value when it is pointed at.
const DOTS_MAX: usize = 150;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 50.0;
/// Told apart by those who see few colours as well (Okabe and Ito). Further lines are dashed.
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
];

impl Plot {
    /// The plot as an `svg` element, or a paragraph that says that there is nothing to plot.
    pub fn draw(&self) -> String {
        let values = || {
            let points = self.lines.iter().flat_map(|(_, points)| points);
            points
                .map(|(_, y)| *y)
                .filter(|y| y.is_finite() && (!self.log_y || *y > 0.0))
        };
        let Some(most) = values().max_by(f64::total_cmp) else {
            return format!("<p>{}: {}.</p>", self.title, self.nothing);
        };
        let least = values().min_by(f64::total_cmp).unwrap_or(most);
        let scale = Scale::new(self.log_y, least, most);
        let rows = self.lines.len().div_ceil(LEGEND_COLUMNS);
        let legend = rows as f64 * LEGEND_ROW;
        let mut out = format!(
            "<svg viewBox=\"0 {} {WIDTH} {}\" role=\"img\" aria-label=\"{2}\">\
             <text x=\"{LEFT}\" y=\"{3}\" class=\"title\">{2}</text>",
            -legend,
            HEIGHT + legend,
            self.title,
            16.0 - legend
        );
        self.draw_axes(&mut out, &scale);
        for (index, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let mut path = String::new();
            let drawn = points
                .iter()
                .filter(|(_, y)| y.is_finite() && (!self.log_y || *y > 0.0));
            for (number, (x, y)) in drawn.enumerate() {
                let letter = if number == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{letter}{:.1} {:.1}", across(*x), scale.place(*y));
            }
            let dashes = ["", "6 3", "2 3", "9 3 2 3"];
            let dashes = dashes[index / COLOURS.len() % dashes.len()];
            let _ = write!(
                out,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-dasharray=\"{dashes}\"/>"
            );
            if points.len() <= DOTS_MAX {
                self.draw_dots(&mut out, &scale, (name, points), colour);
            }
            let column = (WIDTH - RIGHT - LEFT) / LEGEND_COLUMNS as f64;
            let x = LEFT + column * (index % LEGEND_COLUMNS) as f64;
            let y = TOP - 6.0 - legend + LEGEND_ROW * (1 + index / LEGEND_COLUMNS) as f64;
            let _ = write!(
                out,
                "<path d=\"M{x} {0}h14\" stroke=\"{colour}\" stroke-width=\"3\" stroke-dasharray=\"{dashes}\"/>\
                 <text x=\"{1}\" y=\"{y}\">{name}</text>",
                y - 4.0,
                x + 18.0
            );
        }
        out + "</svg>"
    }

    fn draw_dots(
        &self,
        out: &mut String,
        scale: &Scale,
        (name, points): (&str, &[(f64, f64)]),
        colour: &str,
    ) {
        for (x, y) in points {
            if y.is_finite() && (!self.log_y || *y > 0.0) {
                let _ = write!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.2\" fill=\"{colour}\"><title>{name}: {y} {}</title></circle>",
                    across(*x),
                    scale.place(*y),
                    self.y_label
                );
            }
        }
    }

    fn draw_axes(&self, out: &mut String, scale: &Scale) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for value in scale.ticks() {
            let y = scale.place(value);
            let _ = write!(
                out,
                "<path d=\"M{LEFT} {y:.1}H{right}\" class=\"grid\"/>\
                 <text x=\"{}\" y=\"{:.1}\" class=\"right\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                tick(value)
            );
        }
        for (x, name) in &self.x_ticks {
            let x = across(*x);
            let _ = write!(
                out,
                "<path d=\"M{x:.1} {TOP}V{bottom}\" class=\"grid\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" class=\"middle\">{name}</text>",
                bottom + 16.0
            );
        }
        let _ = write!(
            out,
            "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" class=\"axis\"/>\
             <text x=\"{}\" y=\"{}\" class=\"middle\">{}</text>\
             <text transform=\"translate(14 {}) rotate(-90)\" class=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 10.0,
            self.x_label,
            (TOP + bottom) / 2.0,
            self.y_label
        );
    }
}

fn across(x: f64) -> f64 {
    LEFT + x.clamp(0.0, 1.0) * (WIDTH - RIGHT - LEFT)
}

/// The vertical axis.
struct Scale {
    log: bool,
    from: f64,
    to: f64,
}

impl Scale {
    fn new(log: bool, least: f64, most: f64) -> Self {
        if log {
            let from = least.log10().floor();
            let to = most.log10().ceil().max(from + 1.0);
            Self { log, from, to }
        } else {
            let step = step(most);
            let to = (most / step).ceil().max(1.0) * step;
            Self { log, from: 0.0, to }
        }
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        let share = (value - self.from) / (self.to - self.from);
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let (from, to) = (self.from as i32, self.to as i32);
            return (from..=to).map(|power| 10f64.powi(power)).collect();
        }
        let step = step(self.to);
        let count = (self.to / step).round() as u32;
        (0..=count).map(|number| f64::from(number) * step).collect()
    }
}

/// A round number as short as it can be.
fn tick(value: f64) -> String {
    match value {
        _ if value < 1_000.0 => format!("{}", (value * 1e6).round() / 1e6),
        _ if value < 1e6 => format!("{}k", (value / 1e3 * 1e6).round() / 1e6),
        _ if value < 1e9 => format!("{}M", (value / 1e6 * 1e6).round() / 1e6),
        _ => super::text::short(value),
    }
}

/// A round number of which four or a few more make the whole.
fn step(whole: f64) -> f64 {
    let rough = (whole / 4.0).max(1e-9);
    let power = 10f64.powf(rough.log10().floor());
    let digit = rough / power;
    let round = [1.0, 2.0, 5.0, 10.0].into_iter();
    round.filter(|round| *round <= digit).fold(1.0, f64::max) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(log_y: bool, points: Vec<(f64, f64)>) -> String {
        Plot {
            title: "t",
            x_label: "x",
            y_label: "y",
            x_ticks: vec![(0.0, "0".into())],
            log_y,
            lines: vec![("a".into(), points)],
            nothing: "nothing was measured",
        }
        .draw()
    }

    #[test]
    fn points_become_a_path() {
        let svg = plot(false, vec![(0.0, 0.0), (1.0, 4.0)]);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
        // From the lower left corner to the upper right one.
        assert!(svg.contains("M70.0 250.0L740.0 30.0"), "{svg}");
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        assert!(plot(true, vec![(0.0, 0.0)]).contains("nothing was measured"));
        assert!(plot(false, vec![]).contains("nothing was measured"));
        assert!(!plot(true, vec![(0.0, f64::INFINITY), (0.5, 3.0)]).contains("inf"));
    }

    #[test]
    fn a_single_point_can_be_seen_and_twenty_lines_told_apart() {
        assert!(plot(false, vec![(0.0, 7.25)]).contains("<title>a: 7.25 y</title>"));
        let many = Plot {
            title: "t",
            x_label: "x",
            y_label: "y",
            x_ticks: Vec::new(),
            log_y: false,
            lines: (0..20)
                .map(|line| (format!("line {line}"), vec![(0.5, 1.0)]))
                .collect(),
            nothing: "",
        };
        let svg = many.draw();
        let styles: std::collections::BTreeSet<&str> = svg
            .split("h14\" ")
            .skip(1)
            .filter_map(|rest| rest.split("/>").next())
            .collect();
        assert_eq!(styles.len(), 20, "{styles:?}");
        // Four rows of the legend have a place above the plot.
        assert!(svg.contains("viewBox=\"0 -60 760 360\""), "{svg}");
    }

    #[test]
    fn ticks_are_short() {
        for (value, text) in [
            (0.01, "0.01"),
            (10.0, "10"),
            (1_800.0, "1.8k"),
            (2.5e6, "2.5M"),
            (0.0, "0"),
            (0.30000000000000004, "0.3"),
        ] {
            assert_eq!(tick(value), text);
        }
    }

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(
            Scale::new(false, 0.0, 9.3).ticks(),
            [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        );
        assert_eq!(Scale::new(true, 0.03, 20.0).ticks().len(), 5);
        assert_eq!(Scale::new(false, 0.0, 0.0).ticks()[0], 0.0);
    }
}
