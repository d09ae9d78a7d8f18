//! A figure as an SVG element. The lines, texts and their layout are `plotters`'; ranges, ticks, clipping and looks are ours.
//!
//! The canvas has twice the size at which it is shown, since `plotters` places things at whole pixels. Colours are few and fixed; the style sheet
//! of the page turns them for a dark page, by value, and makes dashes by colour and width: `plotters` would write every dash as an element.

use std::fmt::Debug;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::doc::{Axis, Figure, Point, Series, Style};
use crate::palette::{Look, looks};
use crate::scale::{Scale, Unit, drawable};

/// Width and height of a figure's canvas. It is shown at half of it.
const CANVAS: (u32, u32) = (1000, 640);
/// Width and height of a legend's sample, on the same canvas.
const SAMPLE: (u32, u32) = (76, 30);
const INK: RGBColor = RGBColor(34, 34, 34);
const AXIS: RGBColor = RGBColor(119, 119, 119);
const GRID: RGBColor = RGBColor(221, 221, 221);
const MARK: RGBColor = RGBColor(136, 34, 85);
/// Widths of lines; the style sheet dashes [`BOUND`] and [`DASHED`].
const THIN: u32 = 2;
const BOUND: u32 = 3;
const SOLID: u32 = 4;
const DASHED: u32 = 5;
const MARKER: f64 = 8.0;
/// Beyond so many points a line's markers are thinned out.
const MARKERS: usize = 30;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Ruler, Ruler>>;
type Done<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

/// A drawn figure.
pub(crate) struct Drawing {
    /// The SVG element; `None` if no point can be drawn.
    pub(crate) svg: Option<String>,
    /// What a reader must be told: points that are not to be seen, a mark that is beyond the axis.
    pub(crate) remarks: Vec<String>,
}

/// Draws `figure`.
pub(crate) fn draw(figure: &Figure) -> Drawing {
    let points = || figure.series.iter().flat_map(|s| &s.points);
    let visible = |p: &&Point| drawable(p.x, figure.x.log) && drawable(p.y, figure.y.log);
    let xs: Vec<f64> = points().filter(visible).map(|p| p.x).collect();
    let ys: Vec<f64> =
        points().filter(visible).flat_map(|p| [Some(p.y), p.low, p.high].into_iter().flatten()).collect();
    let mut remarks = Vec::new();
    let hidden = points().count() - points().filter(visible).count();
    if hidden > 0 {
        let why = if figure.x.log || figure.y.log { "they are missing, or not above zero" } else { "they are missing" };
        remarks.push(format!("{} not drawn: {why}.", count(hidden)));
    }
    let (Some(x), Some(y)) = (Scale::new(&figure.x, &xs, 7), Scale::new(&figure.y, &ys, 8)) else {
        return Drawing { svg: None, remarks };
    };
    let beyond = points().filter(visible).filter(|p| !within(x.place(p.x)) || !within(y.place(p.y))).count();
    if beyond > 0 {
        remarks.push(format!("{} beyond the axes; lines to them are cut at the edge.", count(beyond)));
    }
    for (axis, scale) in [(&figure.x, &x), (&figure.y, &y)] {
        let Some(mark) = axis.mark else { continue };
        if !drawable(mark, axis.log) || !within(scale.place(mark)) {
            remarks.push(format!("The mark at {} is beyond the axis.", with_unit(scale.name(mark), &axis.unit)));
        }
    }
    let mut svg = String::new();
    let drawn = paint(&mut svg, figure, &x, &y).is_ok();
    Drawing { svg: drawn.then_some(svg), remarks }
}

/// The sample of a series for the legend.
pub(crate) fn sample(style: Style, look: Look) -> String {
    let mut svg = String::new();
    // Writing into a string does not fail; a sample that did would only be missing.
    let _ = paint_sample(&mut svg, style, look);
    svg
}

fn count(points: usize) -> String {
    if points == 1 { "1 point is".to_string() } else { format!("{points} points are") }
}

fn within(place: f64) -> bool {
    (-1e-9..=1.0 + 1e-9).contains(&place)
}

fn with_unit(text: String, unit: &str) -> String {
    if Unit::of(unit).on_ticks() || unit.is_empty() { text } else { format!("{text} {unit}") }
}

fn paint_sample(svg: &mut String, style: Style, look: Look) -> Done<'_> {
    let area = SVGBackend::with_string(svg, SAMPLE).into_drawing_area();
    let (width, middle) = (SAMPLE.0 as i32, SAMPLE.1 as i32 / 2);
    if style != Style::Points {
        line(&area, vec![(2, middle), (width - 2, middle)], stroke(style, look))?;
    }
    if style != Style::Bound {
        marker(&area, (width / 2, middle), look)?;
    }
    area.present()
}

fn paint<'a>(svg: &'a mut String, figure: &Figure, x: &Scale, y: &Scale) -> Done<'a> {
    let area = SVGBackend::with_string(svg, CANVAS).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin_top(16)
        .margin_right(44)
        .margin_bottom(4)
        .x_label_area_size(84)
        .y_label_area_size(136)
        .build_cartesian_2d(Ruler(x.ticks()), Ruler(y.ticks()))?;
    let text = |size: u32| ("sans-serif", size).into_font().color(&INK);
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_labels(16)
        .y_labels(16)
        .bold_line_style(GRID.stroke_width(THIN))
        .axis_style(AXIS.stroke_width(THIN))
        .label_style(text(31))
        .axis_desc_style(text(31))
        .x_desc(label(&figure.x))
        .y_desc(label(&figure.y))
        .draw()?;
    let looks = looks(&figure.series);
    marks(&chart, figure, x, y)?;
    // Bounds below lines, lines below whiskers, markers on top.
    for bound in [true, false] {
        for (series, &look) in figure.series.iter().zip(&looks).filter(|(s, _)| (s.style == Style::Bound) == bound) {
            lines(&chart, figure, series, look, x, y)?;
        }
    }
    for (series, &look) in figure.series.iter().zip(&looks) {
        whiskers(&chart, figure, series, look, x, y)?;
    }
    for (order, (series, &look)) in figure.series.iter().zip(&looks).enumerate() {
        markers(&chart, series, (order, look), (figure, x, y))?;
    }
    drop(chart);
    area.present()
}

fn label(axis: &Axis) -> String {
    match (axis.label.is_empty(), axis.unit.is_empty() || Unit::of(&axis.unit).on_ticks()) {
        (_, true) => axis.label.clone(),
        (true, false) => axis.unit.clone(),
        (false, false) => format!("{} ({})", axis.label, axis.unit),
    }
}

fn stroke(style: Style, look: Look) -> ShapeStyle {
    let width = match style {
        Style::Bound => BOUND,
        _ if look.dashed() => DASHED,
        _ => SOLID,
    };
    colour(look).stroke_width(width)
}

fn colour(look: Look) -> RGBColor {
    let (r, g, b) = look.colour();
    RGBColor(r, g, b)
}

fn line<'a>(area: &Area<'a>, points: Vec<(i32, i32)>, style: ShapeStyle) -> Done<'a> {
    area.draw(&PathElement::new(points, style))
}

fn marker<'a>(area: &Area<'a>, (x, y): (i32, i32), look: Look) -> Done<'a> {
    let outline: Vec<(i32, i32)> = look.marker(MARKER).into_iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
    area.draw(&Polygon::new(outline, colour(look).filled()))
}

/// Lines across the figure at the axes' marks, with their value.
fn marks<'b>(chart: &Chart<'_, 'b>, figure: &Figure, x: &Scale, y: &Scale) -> Done<'b> {
    let area = chart.plotting_area().strip_coord_spec();
    let text = ("sans-serif", 28).into_font().color(&MARK);
    let style = MARK.stroke_width(BOUND);
    let shown = |axis: &Axis, scale: &Scale| {
        let mark = axis.mark.filter(|&m| drawable(m, axis.log))?;
        let place = scale.place(mark);
        within(place).then(|| (place, with_unit(scale.name(mark), &axis.unit)))
    };
    if let Some((place, name)) = shown(&figure.y, y) {
        let (from, to) = (pixel(chart, 0.0, place), pixel(chart, 1.0, place));
        line(&area, vec![from, to], style)?;
        // Below the line if there is no room above; the left end is where curves are low.
        let (dy, v) = if place > 0.93 { (6, VPos::Top) } else { (-8, VPos::Bottom) };
        area.draw_text(&name, &text.pos(Pos::new(HPos::Left, v)), (from.0 + 8, from.1 + dy))?;
    }
    if let Some((place, name)) = shown(&figure.x, x) {
        let (from, to) = (pixel(chart, place, 0.0), pixel(chart, place, 1.0));
        line(&area, vec![from, to], style)?;
        let (dx, h) = if place > 0.8 { (-8, HPos::Right) } else { (8, HPos::Left) };
        area.draw_text(&name, &text.pos(Pos::new(h, VPos::Top)), (to.0 + dx, to.1 + 4))?;
    }
    Ok(())
}

fn pixel(chart: &Chart<'_, '_>, x: f64, y: f64) -> (i32, i32) {
    let (px, py) = chart.backend_coord(&(x, y));
    let (left, top) = chart.plotting_area().get_base_pixel();
    (px - left, py - top)
}

/// The point's place, `None` where it cannot be drawn.
fn place(point: &Point, figure: &Figure, x: &Scale, y: &Scale) -> Option<(f64, f64)> {
    let can = drawable(point.x, figure.x.log) && drawable(point.y, figure.y.log);
    can.then(|| (x.place(point.x), y.place(point.y)))
}

fn lines<'b>(chart: &Chart<'_, 'b>, figure: &Figure, series: &Series, look: Look, x: &Scale, y: &Scale) -> Done<'b> {
    if series.style == Style::Points {
        return Ok(());
    }
    let area = chart.plotting_area().strip_coord_spec();
    let style = stroke(series.style, look);
    let mut path: Vec<(i32, i32)> = Vec::new();
    let places: Vec<Option<(f64, f64)>> = series.points.iter().map(|p| place(p, figure, x, y)).collect();
    for pair in places.windows(2) {
        let [from, to] = pair else { continue };
        let cut = from.zip(*to).and_then(|(from, to)| clip(from, to));
        if let Some((from, to)) = cut {
            let (from, to) = (pixel(chart, from.0, from.1), pixel(chart, to.0, to.1));
            if path.last() != Some(&from) {
                if path.len() > 1 {
                    line(&area, std::mem::take(&mut path), style)?;
                }
                path = vec![from];
            }
            path.push(to);
        }
    }
    if path.len() > 1 { line(&area, path, style) } else { Ok(()) }
}

/// The part of a segment that lies in the unit square (Liang and Barsky 1984).
fn clip(from: (f64, f64), to: (f64, f64)) -> Option<((f64, f64), (f64, f64))> {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (mut enter, mut leave) = (0.0f64, 1.0f64);
    for (towards, room) in [(-dx, from.0), (dx, 1.0 - from.0), (-dy, from.1), (dy, 1.0 - from.1)] {
        if towards == 0.0 {
            if room < 0.0 {
                return None;
            }
        } else if towards < 0.0 {
            enter = enter.max(room / towards);
        } else {
            leave = leave.min(room / towards);
        }
    }
    let at = |t: f64| (from.0 + t * dx, from.1 + t * dy);
    (enter <= leave).then(|| (at(enter), at(leave)))
}

fn whiskers<'b>(chart: &Chart<'_, 'b>, figure: &Figure, series: &Series, look: Look, x: &Scale, y: &Scale) -> Done<'b> {
    let area = chart.plotting_area().strip_coord_spec();
    let style = colour(look).stroke_width(THIN);
    for point in &series.points {
        let Some((across, up)) = place(point, figure, x, y).filter(|p| within(p.0)) else { continue };
        let end = |value: Option<f64>| value.filter(|v| v.is_finite());
        if end(point.low).is_none() && end(point.high).is_none() {
            continue;
        }
        // An end that a log axis cannot show lies below everything.
        let at = |v: f64| if drawable(v, figure.y.log) { y.place(v) } else { 0.0 };
        let (low, high) = (end(point.low).map_or(up, at), end(point.high).map_or(up, at));
        if low > 1.0 || high < 0.0 {
            continue;
        }
        line(&area, vec![pixel(chart, across, low.max(0.0)), pixel(chart, across, high.min(1.0))], style)?;
        // An end beyond the figure has no cap.
        for (px, py) in [low, high].into_iter().filter(|&end| within(end)).map(|end| pixel(chart, across, end)) {
            line(&area, vec![(px - 7, py), (px + 7, py)], style)?;
        }
    }
    Ok(())
}

fn markers<'b>(
    chart: &Chart<'_, 'b>,
    series: &Series,
    (order, look): (usize, Look),
    (figure, x, y): (&Figure, &Scale, &Scale),
) -> Done<'b> {
    if series.style == Style::Bound {
        return Ok(());
    }
    let area = chart.plotting_area().strip_coord_spec();
    let every =
        if series.style == Style::Line && series.points.len() > MARKERS { series.points.len().div_ceil(12) } else { 1 };
    // Series over the same points show their markers at different ones.
    let first = if every > 1 { order * every / figure.series.len().max(1) } else { 0 };
    for point in series.points.iter().skip(first).step_by(every) {
        if let Some((across, up)) = place(point, figure, x, y).filter(|p| within(p.0) && within(p.1)) {
            marker(&area, pixel(chart, across, up), look)?;
        }
    }
    Ok(())
}

/// An axis for `plotters`: places from 0 to 1, with named ticks.
#[derive(Debug)]
struct Ruler(Vec<(f64, String)>);

impl Ranged for Ruler {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (from, to): (i32, i32)) -> i32 {
        from + (place * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let between = hint.weight().allow_light_points();
        if between { Vec::new() } else { self.0.iter().map(|(place, _)| *place).collect() }
    }

    fn range(&self) -> Range<f64> {
        0.0..1.0
    }
}

impl ValueFormatter<f64> for Ruler {
    fn format_ext(&self, place: &f64) -> String {
        self.0.iter().find(|(at, _)| at == place).map(|(_, name)| name.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(points: Vec<Point>, log: bool) -> Figure {
        let axis = Axis { label: "Rate".to_string(), unit: "us".to_string(), log, max: None, mark: Some(50.0) };
        let series = vec![Series { name: "zygix".to_string(), style: Style::Line, points }];
        Figure { x: axis.clone(), y: axis, series, ..Figure::default() }
    }

    /// All numbers of the drawing's coordinates.
    fn coordinates(svg: &str) -> Vec<f64> {
        let named = svg.split_whitespace().filter_map(|word| {
            let (name, value) = word.split_once("=\"")?;
            ["x", "y", "x1", "y1", "x2", "y2"]
                .contains(&name)
                .then(|| value.trim_end_matches(['"', '/', '>']).parse().unwrap())
        });
        let paths =
            svg.split("points=\"").skip(1).flat_map(|rest| rest.split('"').next().unwrap_or("").split([' ', ',']));
        named.chain(paths.filter(|n| !n.is_empty()).map(|n| n.parse().unwrap())).collect()
    }

    #[test]
    fn odd_points_stay_on_the_canvas() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -5.0, 0.0, 1e-300, 1e300, f64::MAX, 1.0, 20.0, 1e17];
        for log in [false, true] {
            for end in [None, Some(10.0), Some(-3.0), Some(f64::NAN)] {
                let points =
                    odd.iter().flat_map(|&x| odd.iter().map(move |&y| Point::spread(x, y, -y, y * 2.0))).collect();
                let mut figure = figure(points, log);
                figure.y.max = end;
                let drawing = draw(&figure);
                assert!(drawing.remarks.iter().any(|r| r.contains("not drawn")), "{:?}", drawing.remarks);
                let svg = drawing.svg.unwrap();
                let numbers = coordinates(&svg);
                assert!(numbers.len() > 20);
                assert!(numbers.iter().all(|n| (-30.0..=1030.0).contains(n)), "log {log}, max {end:?}");
            }
        }
    }

    #[test]
    fn nothing_to_draw_is_said() {
        let drawing = draw(&figure(vec![Point::new(f64::NAN, 1.0), Point::new(1.0, -1.0)], true));
        assert!(drawing.svg.is_none());
        assert_eq!(drawing.remarks, ["2 points are not drawn: they are missing, or not above zero."]);
    }

    #[test]
    fn lines_break_at_gaps_and_are_cut_at_the_edge() {
        let points = [(1.0, 10.0), (2.0, 12.0), (3.0, f64::NAN), (4.0, 14.0), (5.0, 500.0)];
        let mut figure = figure(points.iter().map(|&(x, y)| Point::new(x, y)).collect(), false);
        (figure.x.mark, figure.y.mark, figure.y.max) = (None, Some(15.0), Some(20.0));
        let drawing = draw(&figure);
        assert_eq!(drawing.remarks.len(), 2);
        assert!(drawing.remarks[1].starts_with("1 point is beyond the axes"));
        let svg = drawing.svg.unwrap();
        assert_eq!(svg.matches("stroke=\"#0072B2\"").count(), 2, "{svg}");
        assert_eq!(clip((0.5, 0.5), (0.5, 2.0)), Some(((0.5, 0.5), (0.5, 1.0))));
        assert_eq!(clip((-1.0, 2.0), (2.0, 2.0)), None);
    }

    #[test]
    fn marks_and_labels_are_written() {
        let figure = figure(vec![Point::new(10.0, 20.0), Point::new(1000.0, 400.0)], true);
        let svg = draw(&figure).svg.unwrap();
        assert!(svg.contains("50\u{a0}us"));
        assert!(svg.contains("1\u{a0}ms"));
        assert!(svg.contains("Rate"));
    }
}
