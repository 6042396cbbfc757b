//! What a bench has measured: tables that are printed as they fill, and left as JSON in `target/figures/` for
//! `benches/figures.py`, which makes `docs/benchmarks.md` of them and compares their ratios with the committed ones.

#![allow(dead_code, reason = "each bench needs some of it")]

use std::path::{Path, PathBuf};

use serde::Serialize;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/figures");
/// How wide the first column is printed.
const FIRST_COLUMN: usize = 48;
/// How wide the others are at least.
const COLUMN: usize = 10;

/// A part of a program, by the name it has on the command line: `cargo bench --bench log_viewer -- idle`.
pub type Part = (&'static str, fn(&mut Figures));

/// The figures of one program.
#[derive(Serialize)]
pub struct Figures {
    name: &'static str,
    title: &'static str,
    command: String,
    /// Where its section stands among the others.
    order: u32,
    notes: Vec<String>,
    summary: Vec<(String, String)>,
    tables: Vec<Table>,
    ratios: Vec<Ratio>,
    /// What `-- PART` on the command line asks for; a part leaves no file, or the rest would seem to be gone.
    #[serde(skip)]
    parts: Vec<String>,
}

#[derive(Serialize)]
struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

/// What stands in a table.
#[derive(Serialize, Clone)]
#[serde(untagged)]
pub enum Cell {
    Number(f64),
    Text(String),
    Nothing,
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<Option<f64>> for Cell {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::Nothing, Self::Number)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// How a row compares to something measured in the same run; the larger, the better.
#[derive(Serialize)]
struct Ratio {
    row: String,
    to: String,
    value: f64,
    /// Why two runs of the same program differ too much for it to be held to; `None` where they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    loose: Option<String>,
}

impl Figures {
    pub fn new(name: &'static str, title: &'static str, order: u32) -> Self {
        let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        let figures = Self {
            name,
            title,
            command: format!("make bench ONLY={name}"),
            order,
            notes: Vec::new(),
            summary: Vec::new(),
            tables: Vec::new(),
            ratios: Vec::new(),
            parts,
        };
        // An older run's figures must not stand for a run that fails.
        if figures.parts.is_empty() && figures.path().exists() {
            std::fs::remove_file(figures.path()).expect("an older run's figures can be removed");
        }
        println!("{title}");
        figures
    }

    fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(format!("{}.json", self.name))
    }

    /// Measures all parts, or those that the command line names, and leaves the figures where they are collected.
    pub fn measure(mut self, parts: &[Part]) {
        for (name, part) in parts {
            if self.parts.is_empty() || self.parts.iter().any(|named| named == name) {
                part(&mut self);
            }
        }
        self.leave();
    }

    /// Says how the figures were taken.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        println!("{text}");
        self.notes.push(text);
    }

    /// Says one of the few things that stand at the top of the page.
    pub fn summary(&mut self, what: &str, figures: impl Into<String>) {
        self.summary.push((what.to_owned(), figures.into()));
    }

    /// Begins a table; the first column has the rows' names.
    pub fn table<T: AsRef<str>>(&mut self, title: impl Into<String>, columns: &[T]) {
        let title = title.into();
        print!("\n{title:<FIRST_COLUMN$}");
        for column in columns {
            print!(" {:>width$}", column.as_ref(), width = width(column.as_ref()));
        }
        println!();
        let columns = std::iter::once("").chain(columns.iter().map(AsRef::as_ref)).map(str::to_owned).collect();
        self.tables.push(Table { title, columns, rows: Vec::new() });
    }

    /// Adds a row to the last table.
    pub fn row(&mut self, what: &str, cells: &[Cell]) {
        let table = self.tables.last_mut().expect("a table was begun");
        print!("  {what:<rest$}", rest = FIRST_COLUMN - 2);
        for (cell, column) in cells.iter().zip(&table.columns[1..]) {
            let text = match cell {
                Cell::Number(number) => shown(*number),
                Cell::Text(text) => text.clone(),
                Cell::Nothing => String::new(),
            };
            print!(" {text:>width$}", width = width(column));
        }
        println!();
        table.rows.push(std::iter::once(Cell::Text(what.to_owned())).chain(cells.iter().cloned()).collect());
    }

    /// Keeps how a row of the last table compares to something; later runs are held to it.
    pub fn ratio(&mut self, row: &str, to: &str, value: f64) {
        self.keep(row, to, value, None);
    }

    /// Keeps a ratio that later runs are not held to, and why.
    pub fn loose_ratio(&mut self, row: &str, to: &str, value: f64, why: &str) {
        self.keep(row, to, value, Some(why.to_owned()));
    }

    fn keep(&mut self, row: &str, to: &str, value: f64, loose: Option<String>) {
        assert!(value.is_finite(), "{row} has a ratio to {to}");
        let row = match self.tables.last() {
            Some(table) if !table.title.is_empty() => format!("{}: {row}", table.title),
            _ => row.to_owned(),
        };
        self.ratios.push(Ratio { row, to: to.to_owned(), value, loose });
    }

    fn leave(self) {
        if !self.parts.is_empty() {
            println!("\nonly {}: no figures are left", self.parts.join(" "));
            return;
        }
        std::fs::create_dir_all(FOLDER).expect("the folder of figures can be made");
        let json = serde_json::to_string_pretty(&self).expect("figures are JSON");
        std::fs::write(self.path(), json).expect("the figures can be written");
    }
}

fn width(column: &str) -> usize {
    column.chars().count().max(COLUMN)
}

/// A number with as many places as it is good for.
pub fn shown(number: f64) -> String {
    match number.abs() {
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        0.1.. => format!("{number:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{number:.3}"),
    }
}
