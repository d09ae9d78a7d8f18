//! The page as its reader gets it. With `REPORT_PAGES=FOLDER` the pages are also written there, to be looked at.

#![recursion_limit = "256"]

mod sample;

use std::fs;
use std::path::{Path, PathBuf};

use report::{AnyDoc, Document, LoadObject, Series, Style, html, load_dir};
use serde_json::{Value, json};

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("zygix-report-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bench_page(document: Document) -> String {
    html(&[(PathBuf::from("stacks.json"), AnyDoc::Bench(Box::new(document)))])
}

fn show(name: &str, page: &str) {
    if let Some(folder) = std::env::var_os("REPORT_PAGES") {
        fs::write(Path::new(&folder).join(name), page).unwrap();
    }
}

/// The page without the namespace that every drawing names.
fn without_namespace(page: &str) -> String {
    page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "")
}

#[test]
fn a_bench_is_shown_whole() {
    let document = sample::bench();
    let page = bench_page(document.clone());
    show("stacks.html", &page);
    for figure in &document.figures {
        assert!(page.contains(&figure.title), "{}", figure.title);
        assert!(page.contains(&figure.caption.replace('<', "&lt;")));
        for series in &figure.series {
            assert!(page.contains(&series.name), "{}", series.name);
        }
    }
    // A number of each part: of a curve, its spread, a row, its spread, its ratio, a table, a mark.
    for text in [
        "25833.3",
        "310\u{202f}000",
        "301\u{202f}000\u{2013}316\u{202f}000",
        "2.6x more",
        "51\u{202f}230",
        "9.88",
        "500\u{a0}us",
    ] {
        assert!(page.contains(text), "{text}");
    }
    for text in [
        "Some CPU @ 2.00GHz, 2 cores, 15.6 GB; Linux 6.1.0",
        "virtual machine: Some Cloud",
        "37 of 1480 slices discarded (2.5%)",
        "32d329b",
    ] {
        assert!(page.contains(text), "{text}");
    }
    // Before any figure, the reader learns where it comes from.
    let at = |text: &str| page.find(text).unwrap();
    assert!(
        at("Some CPU") < at("Quiet enough")
            && at("Quiet enough") < at("zygix bench stacks --seconds 2")
            && at("32d329b") < at("<table")
    );
    assert!(at("<table") < at("<figure"));
}

#[test]
fn every_point_is_in_the_data_tables() {
    let mut document = sample::bench();
    document.figures.truncate(1);
    let points = document.figures[0].series.iter().flat_map(|s| s.points.clone()).collect::<Vec<_>>();
    let page = bench_page(document);
    for point in points {
        // As many digits as the tables have.
        let digits = |v: f64| format!("{:.*}", (5 - v.log10().floor() as i32).max(0) as usize, v);
        let text = |v: f64| {
            if digits(v).contains('.') {
                digits(v).trim_end_matches('0').trim_end_matches('.').to_string()
            } else {
                digits(v)
            }
        };
        for value in [point.x, point.y, point.low.unwrap(), point.high.unwrap()] {
            assert!(page.contains(&format!("<td class=\"num\">{}</td>", text(value))), "{value} as {}", text(value));
        }
    }
}

#[test]
fn a_load_is_shown_whole() {
    let object = AnyDoc::Load(LoadObject(sample::load("kv", 1.0)));
    let page = html(&[(PathBuf::from("kv.json"), object)]);
    show("load.html", &page);
    for text in [
        "Latency by percentile",
        "99.9%",
        "Rate over time",
        "Latency over time",
        "p99 latency by throughput",
        "bandwidth by message size",
        "Half of the largest bandwidth is reached at about",
        "1\u{202f}500\u{202f}300",
        "errors: lost",
        "broken pipe",
        "61.4",
        "Most load that kept p99=500us: 171\u{202f}200 requests/s",
        "the server could not keep up",
        "1 of the agents failed",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn several_loads_share_their_curves() {
    let docs = [("linux", 0.5), ("zygix", 1.0)].map(|(name, speed)| {
        (PathBuf::from(format!("{name}.json")), AnyDoc::Load(LoadObject(sample::load("kv", speed))))
    });
    let mut docs = docs.to_vec();
    docs.insert(0, (PathBuf::from("stacks.json"), AnyDoc::Bench(Box::new(sample::bench()))));
    let page = html(&docs);
    show("several.html", &page);
    let shared = page.find("id=\"loads-curve-p99\"").expect("no shared figure");
    let figure = &page[shared..shared + page[shared..].find("</figure>").unwrap()];
    assert!(figure.contains(" linux</li>") && figure.contains(" zygix</li>"), "{figure}");
    assert!(page.contains("Where these figures come from"));
}

#[test]
fn links_lead_somewhere_and_ids_are_unique() {
    let mut document = sample::bench();
    document.figures.push(document.figures[0].clone());
    let docs = [
        (PathBuf::from("a.json"), AnyDoc::Bench(Box::new(document.clone()))),
        (PathBuf::from("b.json"), AnyDoc::Bench(Box::new(document))),
        (PathBuf::from("c.json"), AnyDoc::Skipped("it has no schema".to_string())),
    ];
    let page = html(&docs);
    let mut ids: Vec<&str> = page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let links: Vec<&str> = page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(links.len() > 10);
    assert!(links.iter().all(|link| ids.contains(link)));
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn nothing_is_fetched_and_nothing_runs() {
    let docs = [
        (PathBuf::from("a.json"), AnyDoc::Bench(Box::new(sample::bench()))),
        (PathBuf::from("b.json"), AnyDoc::Load(LoadObject(sample::load("kv", 1.0)))),
    ];
    let page = without_namespace(&html(&docs)).to_lowercase();
    for text in ["http:", "https:", "<script", "src=", "@import", "url(", "<link", "<iframe"] {
        assert!(!page.contains(text), "{text}");
    }
}

/// Puts `text` in place of every string of `value`, except where a name decides what is read.
fn spoil(value: &mut Value, text: &str) {
    match value {
        Value::String(s) => *s = text.to_string(),
        Value::Array(items) => items.iter_mut().for_each(|item| spoil(item, text)),
        Value::Object(items) => {
            items
                .iter_mut()
                .filter(|(key, _)| !["schema", "style"].contains(&key.as_str()))
                .for_each(|(_, item)| spoil(item, text));
        }
        _ => {}
    }
}

#[test]
fn hostile_text_is_escaped() {
    for hostile in [
        "</svg></style><script>alert(1)</script>",
        "\" onload=\"alert(1)",
        "'><img src=x onerror=alert(1)>",
        "&lt;script&gt;",
        "]]><!--",
    ] {
        let mut bench = serde_json::to_value(sample::bench()).unwrap();
        let mut load = sample::load("kv", 1.0);
        spoil(&mut bench, hostile);
        spoil(&mut load, hostile);
        load["errors_by_kind"] = json!({hostile: 3});
        let docs = [
            (PathBuf::from(hostile), AnyDoc::Bench(Box::new(serde_json::from_value(bench).unwrap()))),
            (PathBuf::from(format!("{hostile}.json")), AnyDoc::Load(LoadObject(load))),
            (PathBuf::from(hostile), AnyDoc::Skipped(hostile.to_string())),
        ];
        let page = html(&docs);
        assert!(!page.contains(hostile), "{hostile}");
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("\" onload"));
        assert_eq!(page.matches("</style>").count(), 1);
    }
}

#[test]
fn the_same_documents_give_the_same_page() {
    assert_eq!(bench_page(sample::bench()), bench_page(sample::bench()));
    let written = serde_json::to_string(&sample::bench()).unwrap();
    let read: Document = serde_json::from_str(&written).unwrap();
    assert_eq!(bench_page(read), bench_page(sample::bench()));
}

#[test]
fn documents_may_lack_almost_everything() {
    let bare: Document = serde_json::from_value(json!({"schema": "zygix-bench-1"})).unwrap();
    assert!(bench_page(bare).contains("not recorded"));
    let nulls = json!({
        "schema": "zygix-bench-1", "seconds_per_point": null, "rows": [{}, null, 3, {"app": "kv", "rps_at_slo": "fast", "stack": 7}],
        "figures": [{"series": [{"name": "lonely"}, {"points": [{}, {"x": null, "y": 3.0, "low": null}]}]}],
        "tables": [{"columns": [{"name": "short"}, {"name": "shorter"}], "rows": [[], [1], [1, 2, 3], [{"a": 1}]]}],
    });
    let page = bench_page(serde_json::from_value(nulls).unwrap());
    assert!(page.contains("lonely") && page.contains("shorter"));
    assert!(html(&[]).contains("There are no results"));
    let odd = json!({"schema": "zygix-load-1", "points": 3, "series": [null, {}], "percentiles": [[], [0.5], 7], "pingpong": [{}], "machine": 3});
    assert!(html(&[(PathBuf::from("odd.json"), AnyDoc::Load(LoadObject(odd)))]).contains("Summary"));
}

#[test]
fn styles_are_lower_case_in_json() {
    let series = Series { name: "a".to_string(), style: Style::Bound, points: Vec::new() };
    assert_eq!(serde_json::to_value(series).unwrap(), json!({"name": "a", "style": "bound", "points": []}));
}

#[test]
fn a_folder_is_read_and_strangers_are_named() {
    let folder = Folder::new("mixed");
    folder.put("b-stacks.json", serde_json::to_string(&sample::bench()).unwrap());
    folder.put("a-load.json", sample::load("echo", 1.0).to_string());
    folder.put("broken.json", "{");
    folder.put("binary.json", [0xff, 0xfe, 0]);
    folder.put("list.json", "[1, 2]");
    folder.put("other.json", r#"{"schema": "somebody-else-7"}"#);
    folder.put("wrong.json", r#"{"schema": "zygix-bench-1", "figures": 3}"#);
    folder.put("notes.txt", "not looked at");
    let docs = load_dir(&folder.0).unwrap();
    let names: Vec<_> = docs.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(
        names,
        ["b-stacks.json", "a-load.json", "binary.json", "broken.json", "list.json", "other.json", "wrong.json"]
    );
    assert_eq!(docs.iter().filter(|(_, doc)| matches!(doc, AnyDoc::Skipped(_))).count(), 5);
    let page = html(&docs);
    for text in [
        "Files left out",
        "broken.json",
        "not JSON",
        "somebody-else-7",
        "it has no schema",
        "not a proper zygix-bench-1 document",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn a_folder_without_results_is_an_error() {
    let folder = Folder::new("none");
    let message = |path: &Path| format!("{:#}", load_dir(path).unwrap_err());
    assert!(message(&folder.0).contains("holds no results. Make some with `zygix bench"), "{}", message(&folder.0));
    folder.put("other.json", "{}");
    assert!(message(&folder.0).contains("other.json (it has no schema)"));
    assert!(message(&folder.0.join("missing")).contains("cannot read the folder"));
}
