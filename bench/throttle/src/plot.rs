//! The plot of `docs/throttling.md`: how soon a crowd is served, and what a day loses to the throttle.
//!
//! Plain SVG on a transparent ground; its greys and colours are readable on white and on black.

use std::fmt::Write as _;

use crate::report::{Report, Row, Start};

/// Where a panel's axes cross, and its size.
const LEFT: [u32; 2] = [56, 486];
const FOOT: u32 = 290;
const WIDTH: u32 = 340;
const HEIGHT: u32 = 220;
/// The time axis of the first panel.
const MINUTES: u32 = 10;
const COLOURS: [&str; 4] = ["#1a9850", "#4393c3", "#e08214", "#d6604d"];
const GREY: &str = "#808080";

impl Report {
    /// The plot, as an SVG file.
    #[must_use]
    pub fn plot(&self) -> String {
        let mut svg = String::from(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 850 400\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <title>1,000 pods that start within 30 s, and a day of 30 to 1,500 pods, on one client id</title>\n",
        );
        for (left, title) in LEFT.into_iter().zip([
            "1,000 pods start: those that have their secrets",
            "a day: calls that are throttled",
        ]) {
            label(&mut svg, left, 40, "start", title);
            for percent in [0, 50, 100] {
                let y = FOOT - HEIGHT * percent / 100;
                let end = left + WIDTH;
                let _ = writeln!(
                    svg,
                    "<path d=\"M{left} {y}H{end}\" stroke=\"{GREY}\" stroke-opacity=\"0.5\"/>"
                );
                label(&mut svg, left - 6, y + 4, "end", &format!("{percent} %"));
            }
        }
        for minute in (0..=MINUTES).step_by(2) {
            let x = LEFT[0] + WIDTH * minute / MINUTES;
            label(&mut svg, x, FOOT + 18, "middle", &format!("{minute} min"));
        }
        for (number, (start, colour)) in self.starts.iter().zip(COLOURS).enumerate() {
            curve(&mut svg, start, colour);
            let row = u32::try_from(number).unwrap_or(0);
            let (x, y) = (LEFT[0] + 170 * (row % 2), FOOT + 48 + 22 * (row / 2));
            legend(&mut svg, x, y, colour, start.name);
        }
        let colours = [COLOURS[0], COLOURS[2], COLOURS[3]];
        for (group, rows) in self.steady.chunks(colours.len()).enumerate() {
            let x = LEFT[1] + 12 + 84 * u32::try_from(group).unwrap_or(0);
            bars(&mut svg, x, rows, &colours);
            for (number, (row, colour)) in rows.iter().zip(colours).enumerate() {
                if group == 0 {
                    let x = LEFT[1] + 110 * u32::try_from(number).unwrap_or(0);
                    legend(&mut svg, x, FOOT + 48, colour, row.policy);
                }
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// The share of the pods that have their secrets, over the time since each was made.
fn curve(svg: &mut String, start: &Start, colour: &str) {
    let _ = write!(
        svg,
        "<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" d=\""
    );
    for x in 0..=WIDTH {
        let ms = i64::from(x) * i64::from(MINUTES) * 60_000 / i64::from(WIDTH);
        let served = start.waits_ms.partition_point(|wait| *wait <= ms);
        let tenths = u32::try_from(served * 1_000 / start.pods.max(1)).unwrap_or(0);
        let y = FOOT - HEIGHT * tenths / 1_000;
        let _ = write!(svg, "{}{} {y}", if x == 0 { 'M' } else { 'L' }, LEFT[0] + x);
    }
    svg.push_str("\"/>\n");
}

/// What fleets of one size lose.
fn bars(svg: &mut String, left: u32, rows: &[Row], colours: &[&str]) {
    for (number, (row, colour)) in rows.iter().zip(colours).enumerate() {
        let percent = u32::try_from(row.throttled / 1_000).unwrap_or(100);
        // A bar of nothing is still to be seen.
        let height = (HEIGHT * percent / 100).max(2);
        let x = left + 22 * u32::try_from(number).unwrap_or(0);
        let y = FOOT - height;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"18\" height=\"{height}\" fill=\"{colour}\"/>"
        );
    }
    let pods = rows.first().map_or(0, |row| row.pods);
    label(svg, left + 31, FOOT + 18, "middle", &format!("{pods} pods"));
}

fn legend(svg: &mut String, x: u32, y: u32, colour: &str, text: &str) {
    let top = y - 10;
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{top}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
    );
    label(svg, x + 18, y, "start", text);
}

fn label(svg: &mut String, x: u32, y: u32, anchor: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" fill=\"{GREY}\">{text}</text>"
    );
}
