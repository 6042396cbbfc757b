//! Results of a benchmark: tables that are printed as they fill and written as JSON to `target/figures/`.
//!
//! `benches/figures.py` renders the JSON files as `docs/benchmarks.md` and compares their ratios with the committed ones.

#![allow(dead_code, reason = "each bench uses a part of this module")]

use std::path::{Path, PathBuf};

use serde::Serialize;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/figures");
/// Printed width of the first column, in characters.
const LABEL_WIDTH: usize = 48;
/// Minimum printed width of the other columns, in characters.
const COLUMN_WIDTH_MIN: usize = 10;

/// Section of a benchmark and its name on the command line, for example `cargo bench --bench log_viewer -- idle`.
pub type Section = (&'static str, fn(&mut Figures));

/// Results of one benchmark program.
#[derive(Serialize)]
pub struct Figures {
    name: &'static str,
    title: &'static str,
    command: String,
    /// Position of its section on the page; lower numbers come first.
    order: u32,
    notes: Vec<String>,
    summary: Vec<(String, String)>,
    tables: Vec<Table>,
    ratios: Vec<Ratio>,
    /// Sections selected on the command line. With a selection, no file is written, because it would lack the others.
    #[serde(skip)]
    selected: Vec<String>,
}

#[derive(Serialize)]
struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

/// Content of a table cell.
#[derive(Serialize, Clone)]
#[serde(untagged)]
pub enum Cell {
    Number(f64),
    Label(String),
    Empty,
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<Option<f64>> for Cell {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::Empty, Self::Number)
    }
}

impl From<&str> for Cell {
    fn from(label: &str) -> Self {
        Self::Label(label.to_owned())
    }
}

/// Ratio of a row to a reference measured in the same run; larger is better.
#[derive(Serialize)]
struct Ratio {
    row: String,
    to: String,
    value: f64,
    /// Reason why the ratio is reported but not compared: it differs too much between runs of the same program. `None`
    /// if it is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    loose: Option<String>,
}

impl Figures {
    pub fn new(name: &'static str, title: &'static str, order: u32) -> Self {
        let selected: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        let figures = Self {
            name,
            title,
            command: format!("make bench ONLY={name}"),
            order,
            notes: Vec::new(),
            summary: Vec::new(),
            tables: Vec::new(),
            ratios: Vec::new(),
            selected,
        };
        // If this run fails, the file of an earlier run must not pass for its results.
        if figures.selected.is_empty() && figures.path().exists() {
            std::fs::remove_file(figures.path()).expect("remove the file of an earlier run");
        }
        println!("{title}");
        figures
    }

    fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(format!("{}.json", self.name))
    }

    /// Runs all sections, or those selected on the command line, and writes the results.
    pub fn run(mut self, sections: &[Section]) {
        for (name, section) in sections {
            if self.selected.is_empty() || self.selected.iter().any(|selected| selected == name) {
                section(&mut self);
            }
        }
        self.write_json();
    }

    /// Adds a paragraph that describes how the results were measured.
    pub fn add_note(&mut self, note: impl Into<String>) {
        let note = note.into();
        println!("{note}");
        self.notes.push(note);
    }

    /// Adds a row to the summary at the top of the page.
    pub fn add_summary(&mut self, label: &str, result: impl Into<String>) {
        self.summary.push((label.to_owned(), result.into()));
    }

    /// Starts a table. `columns` excludes the first column, which contains the row labels.
    pub fn begin_table<T: AsRef<str>>(&mut self, title: impl Into<String>, columns: &[T]) {
        let title = title.into();
        print!("\n{title:<LABEL_WIDTH$}");
        for column in columns {
            print!(" {:>width$}", column.as_ref(), width = printed_width(column.as_ref()));
        }
        println!();
        let columns = std::iter::once("").chain(columns.iter().map(AsRef::as_ref)).map(str::to_owned).collect();
        self.tables.push(Table { title, columns, rows: Vec::new() });
    }

    /// Adds a row to the most recent table.
    pub fn add_row(&mut self, label: &str, cells: &[Cell]) {
        let table = self.tables.last_mut().expect("begin_table was called");
        print!("  {label:<rest$}", rest = LABEL_WIDTH - 2);
        for (cell, column) in cells.iter().zip(&table.columns[1..]) {
            let printed = match cell {
                Cell::Number(number) => format_number(*number),
                Cell::Label(label) => label.clone(),
                Cell::Empty => String::new(),
            };
            print!(" {printed:>width$}", width = printed_width(column));
        }
        println!();
        table.rows.push(std::iter::once(Cell::Label(label.to_owned())).chain(cells.iter().cloned()).collect());
    }

    /// Records the ratio of a row of the most recent table to a reference; `make bench-compare` checks it.
    pub fn add_ratio(&mut self, row: &str, to: &str, value: f64) {
        self.push_ratio(row, to, value, None);
    }

    /// Records a ratio that is reported but not checked, with the reason.
    pub fn add_informational_ratio(&mut self, row: &str, to: &str, value: f64, reason: &str) {
        self.push_ratio(row, to, value, Some(reason.to_owned()));
    }

    fn push_ratio(&mut self, row: &str, to: &str, value: f64, loose: Option<String>) {
        assert!(value.is_finite(), "the ratio of {row} to {to} is not finite");
        let row = match self.tables.last() {
            Some(table) if !table.title.is_empty() => format!("{}: {row}", table.title),
            _ => row.to_owned(),
        };
        self.ratios.push(Ratio { row, to: to.to_owned(), value, loose });
    }

    fn write_json(self) {
        if !self.selected.is_empty() {
            println!("\nmeasured only {}; no file was written", self.selected.join(" "));
            return;
        }
        std::fs::create_dir_all(FOLDER).expect("create target/figures");
        let json = serde_json::to_string_pretty(&self).expect("figures serialize to JSON");
        std::fs::write(self.path(), json).expect("write the figures");
    }
}

fn printed_width(column: &str) -> usize {
    column.chars().count().max(COLUMN_WIDTH_MIN)
}

/// Formats a number with about three significant digits.
pub fn format_number(number: f64) -> String {
    match number.abs() {
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        0.1.. => format!("{number:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{number:.3}"),
    }
}
