//! The page: documents as one file of HTML with its style and drawings inside.
//!
//! Everything that comes from a document passes through `maud`, which escapes it; what is inserted as it is, is the style sheet and the drawings.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use crate::doc::{Column, Document, Figure, Machine, Noise, Table};
use crate::folder::{AnyDoc, file_name};
use crate::load::{LoadObject, curves, overview};
use crate::number::{DASH, fixed, grouped, short, trimmed};
use crate::palette::looks;
use crate::plot::{draw, sample};
use crate::scale::percentile;
use crate::stacks;

/// No script, no request to anywhere: also if an escape were forgotten.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// One self-contained page of all `docs`, as [`crate::load_dir`] gives them. The same documents give the same page.
pub fn html(docs: &[(PathBuf, AnyDoc)]) -> String {
    let sections = sections(docs);
    let title = match &sections[..] {
        [only] => only.title().to_string(),
        _ => "Zygix: measurements".to_string(),
    };
    let skipped: Vec<(String, &str)> = docs
        .iter()
        .filter_map(|(path, doc)| match doc {
            AnyDoc::Skipped(why) => Some((file_name(path), why.as_str())),
            _ => None,
        })
        .collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                h1 { (title) }
                @if sections.is_empty() { p { "There are no results to show." } }
                @match &sections[..] {
                    [only] => { (origin(only)) (contents(&sections)) (body(only)) }
                    _ => {
                        (sources(&sections))
                        (contents(&sections))
                        @for section in &sections {
                            section {
                                h2 id=(section.anchor) { (section.title()) }
                                @if !section.file.is_empty() { (origin(section)) }
                                (body(section))
                            }
                        }
                    }
                }
                @if !skipped.is_empty() {
                    h2 id="skipped" { "Files left out" }
                    ul { @for (name, why) in skipped { li { code { (name) } ": " (why) } } }
                }
            }
        }
    };
    page.into_string()
}

/// A document with the anchors of its parts.
struct Section<'a> {
    anchor: String,
    /// Where it was read; empty for what was put together from several files.
    file: String,
    doc: Cow<'a, Document>,
    rows: String,
    figures: Vec<String>,
    tables: Vec<String>,
}

impl Section<'_> {
    fn title(&self) -> &str {
        [&self.doc.title, &self.doc.kind, &self.file]
            .into_iter()
            .find(|t| !t.is_empty())
            .map_or("Results", String::as_str)
    }
}

/// Hands out anchors, each once.
#[derive(Default)]
struct Anchors(HashSet<String>);

impl Anchors {
    fn make(&mut self, words: &[&str]) -> String {
        let text = words.join("-").to_lowercase();
        let slug: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(80).collect();
        let parts: Vec<&str> = slug.split('-').filter(|part| !part.is_empty()).collect();
        let base = if parts.is_empty() { "part".to_string() } else { parts.join("-") };
        let numbered = (2..).map(|n| format!("{base}-{n}"));
        let free = std::iter::once(base.clone()).chain(numbered).find(|name| !self.0.contains(name)).unwrap_or(base);
        self.0.insert(free.clone());
        free
    }
}

fn sections(docs: &[(PathBuf, AnyDoc)]) -> Vec<Section<'_>> {
    let mut anchors = Anchors::default();
    anchors.make(&["skipped"]);
    let mut sections = Vec::new();
    let loads: Vec<(String, &LoadObject)> = docs
        .iter()
        .filter_map(|(path, doc)| match doc {
            AnyDoc::Load(object) => Some((stem(path), object)),
            _ => None,
        })
        .collect();
    for (path, doc) in docs {
        if let AnyDoc::Bench(document) = doc {
            sections.push(section(file_name(path), Cow::Borrowed(document.as_ref()), &mut anchors));
        }
    }
    if loads.len() > 1 {
        let together = Document {
            kind: "loads".to_string(),
            title: "Loads side by side".to_string(),
            figures: curves(&loads),
            tables: vec![overview(&loads)],
            ..Document::default()
        };
        sections.push(section(String::new(), Cow::Owned(together), &mut anchors));
    }
    for (path, doc) in docs {
        if let AnyDoc::Load(object) = doc {
            sections.push(section(file_name(path), Cow::Owned(object.document(&stem(path))), &mut anchors));
        }
    }
    sections
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn section<'a>(file: String, doc: Cow<'a, Document>, anchors: &mut Anchors) -> Section<'a> {
    let name = if doc.kind.is_empty() { "results".to_string() } else { doc.kind.clone() };
    let anchor = anchors.make(&[&name]);
    let rows = anchors.make(&[&anchor, "stacks"]);
    let figures = doc.figures.iter().map(|f| anchors.make(&[&anchor, &f.id])).collect();
    let tables = doc.tables.iter().map(|t| anchors.make(&[&anchor, &t.id])).collect();
    Section { anchor, file, rows, figures, tables, doc }
}

/// Where the figures come from: before anything else.
fn origin(section: &Section<'_>) -> Markup {
    let doc = &section.doc;
    let or_dash = |text: &str| {
        if text.is_empty() {
            not_recorded()
        } else {
            html! { (text) }
        }
    };
    html! {
        dl.origin {
            dt { "Machine" } dd { (machine(&doc.machine)) }
            @if doc.kind != "load" { dt { "Noise" } dd { (noise(&doc.noise)) } }
            dt { "Command" } dd { @if doc.command.is_empty() { (not_recorded()) } @else { code { (doc.command) } } }
            dt { "Commit" } dd { (or_dash(&doc.commit)) }
            dt { "Measured" } dd { (or_dash(&doc.started)) (extent(doc)) }
            dt { "File" } dd { code { (section.file) } }
        }
        @for note in &doc.notes { p.note { (note) } }
    }
}

fn not_recorded() -> Markup {
    html! { span.missing { "not recorded" } }
}

fn extent(doc: &Document) -> Markup {
    let seconds = doc.seconds_per_point;
    html! {
        @if seconds.is_finite() && seconds > 0.0 {
            "; " (trimmed(seconds, 3)) " s"
            @if doc.kind != "load" { " per point" }
            @if doc.repeats > 1 { ", each " (doc.repeats) " times" }
        }
    }
}

fn machine(machine: &Machine) -> Markup {
    if *machine == Machine::default() {
        return not_recorded();
    }
    let cpu = if machine.cpu.is_empty() { "unnamed processor" } else { &machine.cpu };
    html! {
        (cpu) ", " (machine.cores) @if machine.cores == 1 { " core" } @else { " cores" }
        @if machine.memory_gb.is_finite() && machine.memory_gb > 0.0 { ", " (trimmed(machine.memory_gb, 3)) " GB" }
        "; Linux " (machine.kernel)
        "; " @match &machine.hypervisor { Some(name) => { "virtual machine: " (name) } None => { "no hypervisor" } }
        @if let Some(governor) = &machine.governor { "; frequency governor " (governor) }
    }
}

fn noise(noise: &Noise) -> Markup {
    if *noise == Noise::default() {
        return not_recorded();
    }
    let share = noise.discarded as f64 / noise.slices.max(1) as f64 * 100.0;
    html! {
        @if !noise.verdict.is_empty() { strong { (noise.verdict) } " " }
        (grouped(&noise.discarded.to_string())) " of " (grouped(&noise.slices.to_string())) " slices discarded (" (trimmed(share, 2)) "%)"
        @if noise.waited_ms.is_finite() { "; measured threads waited " (short(noise.waited_ms)) " ms for a core" }
        @if noise.stolen_share.is_finite() { "; stolen by the hypervisor: " (trimmed(noise.stolen_share * 100.0, 2)) "%" }
        "."
    }
}

/// The origin of each section on one line: a first look at a page of several documents.
fn sources(sections: &[Section<'_>]) -> Markup {
    html! {
        @if !sections.is_empty() {
            h2 id="sources" { "Where these figures come from" }
            div.wide { table {
                thead { tr {
                    th scope="col" { "Results" } th scope="col" { "Machine" } th scope="col" { "Noise" } th scope="col" { "Command" }
                    th scope="col" { "Commit" } th scope="col" { "Started" }
                } }
                tbody {
                    @for section in sections.iter().filter(|s| !s.file.is_empty()) {
                        tr {
                            th scope="row" { a href={ "#" (section.anchor) } { (section.title()) } }
                            td { (machine(&section.doc.machine)) }
                            td { @if section.doc.noise.verdict.is_empty() { (DASH) } @else { (section.doc.noise.verdict) } }
                            td { @if section.doc.command.is_empty() { (DASH) } @else { code { (section.doc.command) } } }
                            td { @if section.doc.commit.is_empty() { (DASH) } @else { (section.doc.commit) } }
                            td { @if section.doc.started.is_empty() { (DASH) } @else { (section.doc.started) } }
                        }
                    }
                }
            } }
        }
    }
}

fn contents(sections: &[Section<'_>]) -> Markup {
    let figures = |s: &Section<'_>| {
        html! {
            @for (figure, anchor) in s.doc.figures.iter().zip(&s.figures) { li { a href={ "#" (anchor) } { (figure.title) } } }
        }
    };
    let tables = |s: &Section<'_>| {
        html! {
            @for (table, anchor) in s.doc.tables.iter().zip(&s.tables) { li { a href={ "#" (anchor) } { (table.title) " (table)" } } }
        }
    };
    let parts = |section: &Section<'_>| -> Markup {
        html! {
            ul {
                @if has_stacks(&section.doc) { li { a href={ "#" (section.rows) } { "Stacks side by side" } } }
                @if tables_first(&section.doc) { (tables(section)) (figures(section)) } @else { (figures(section)) (tables(section)) }
            }
        }
    };
    html! {
        nav aria-label="Contents" {
            @match sections {
                [] => {}
                [only] => (parts(only)),
                _ => ul { @for section in sections { li { a href={ "#" (section.anchor) } { (section.title()) } (parts(section)) } } },
            }
        }
    }
}

/// Of a load the summary is what is looked for; of a bench, the curves.
fn tables_first(doc: &Document) -> bool {
    doc.kind.starts_with("load")
}

fn body(section: &Section<'_>) -> Markup {
    let doc = &section.doc;
    let figures = html! {
        @if !doc.figures.is_empty() {
            div.figures { @for (f, anchor) in doc.figures.iter().zip(&section.figures) { (figure(f, anchor)) } }
        }
    };
    let tables = html! { @for (t, anchor) in doc.tables.iter().zip(&section.tables) { (table(t, anchor)) } };
    html! {
        @if has_stacks(doc) {
            h3 { "Stacks side by side" }
            (stacks::section(&doc.rows, &section.rows))
        }
        @if tables_first(doc) { (tables) (figures) } @else { (figures) (tables) }
    }
}

/// Whether the rows are a comparison of stacks; other benches show theirs as tables.
fn has_stacks(doc: &Document) -> bool {
    doc.kind == "stacks" && !doc.rows.is_empty()
}

fn figure(figure: &Figure, anchor: &str) -> Markup {
    let drawing = draw(figure);
    html! {
        figure id=(anchor) {
            h3 { (figure.title) }
            @match drawing.svg {
                Some(svg) => {
                    div.plot role="img" aria-label=(figure.title) { (PreEscaped(svg)) }
                    ul.legend {
                        @for (series, look) in figure.series.iter().zip(looks(&figure.series)) {
                            li { (PreEscaped(sample(series.style, look))) " " (series.name) }
                        }
                    }
                }
                None => p.missing { "There is no point to draw." },
            }
            figcaption {
                (figure.caption)
                @for remark in &drawing.remarks { " " (remark) }
            }
            (data(figure))
        }
    }
}

/// The numbers behind a figure.
fn data(figure: &Figure) -> Markup {
    let spread = figure.series.iter().flat_map(|s| &s.points).any(|p| p.low.is_some() || p.high.is_some());
    let heading = |label: &str, unit: &str| {
        html! {
            th.num scope="col" { (label) @if !unit.is_empty() && unit != "percentile" { small { " " (unit) } } }
        }
    };
    let x = |value: f64| {
        if figure.x.unit == "percentile" && value.is_finite() { percentile(value) } else { trimmed(value, 6) }
    };
    let end = |value: Option<f64>| trimmed(value.unwrap_or(f64::NAN), 6);
    html! {
        details {
            summary { "Data" }
            div.wide { table {
                thead { tr {
                    (heading(&figure.x.label, &figure.x.unit)) (heading(&figure.y.label, &figure.y.unit))
                    @if spread { (heading("low", &figure.y.unit)) (heading("high", &figure.y.unit)) }
                } }
                @for series in &figure.series {
                    tbody {
                        tr.group { th colspan=(if spread { 4 } else { 2 }) scope="colgroup" { span { (series.name) } } }
                        @for point in &series.points {
                            tr {
                                td.num { (x(point.x)) } td.num { (trimmed(point.y, 6)) }
                                @if spread { td.num { (end(point.low)) } td.num { (end(point.high)) } }
                            }
                        }
                    }
                }
            } }
        }
    }
}

fn table(table: &Table, anchor: &str) -> Markup {
    // A missing number has to be explained; a missing word is nothing to be said.
    let missing =
        |row: &[Value]| table.columns.iter().enumerate().any(|(i, c)| !c.text && row.get(i).is_none_or(Value::is_null));
    let dashes = table.rows.iter().any(|row| missing(row));
    html! {
        h3 id=(anchor) { (table.title) }
        div.wide { table {
            thead { tr {
                @for column in &table.columns {
                    th.num[!column.text] scope="col" { (column.name) @if !column.unit.is_empty() { br; small { (column.unit) } } }
                }
            } }
            tbody {
                @for row in &table.rows {
                    tr {
                        @for (i, column) in table.columns.iter().enumerate() {
                            td.num[!column.text] { (cell(column, row.get(i).unwrap_or(&Value::Null))) }
                        }
                    }
                }
            }
        } }
        @if table.rows.is_empty() { p.missing { "Nothing was recorded." } }
        @if !table.caption.is_empty() || dashes {
            p.foot { (table.caption) @if dashes && !table.caption.contains("dash") { " " (DASH) ": not measured." } }
        }
    }
}

fn cell(column: &Column, value: &Value) -> Markup {
    let text = match value {
        Value::Null => return html! { span.missing { (DASH) } },
        Value::String(text) => text.clone(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_string(),
        Value::Number(number) => match (column.decimals, number.as_f64()) {
            (Some(decimals), Some(value)) => fixed(value, decimals),
            // A count is shown whole.
            (None, _) if number.is_i64() || number.is_u64() => grouped(&number.to_string()),
            (None, Some(value)) => short(value),
            (_, None) => number.to_string(),
        },
        Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    html! { (text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn anchors_are_plain_and_unique() {
        let mut anchors = Anchors::default();
        assert_eq!(anchors.make(&["Stacks", "p99 <us>"]), "stacks-p99-us");
        assert_eq!(anchors.make(&["stacks", "p99 us"]), "stacks-p99-us-2");
        assert_eq!(anchors.make(&["", "\"<>"]), "part");
    }

    #[test]
    fn cells_are_formatted_by_their_column() {
        let text = |column: Column, value: Value| cell(&column, &value).into_string();
        assert_eq!(text(Column::number("n", ""), json!(123456)), "123\u{202f}456");
        assert_eq!(text(Column::number("n", ""), json!(12.3456)), "12.3");
        assert_eq!(text(Column::number("n", "").decimals(2), json!(12)), "12.00");
        assert_eq!(text(Column::text("n"), json!("<b>")), "&lt;b&gt;");
        assert!(text(Column::number("n", ""), Value::Null).contains(DASH));
        assert_eq!(text(Column::text("ok"), json!(true)), "yes");
    }
}
