//! Recorder for measured tables. Prints each table and, if `MONLIGHT_FIGURES` names a folder, writes a JSON file there
//! for `docs/benchmarks.md`.

use std::path::Path;

use serde_json::{Value, json};

/// The figures of one test run, saved as one JSON file.
pub struct Figures {
    pub name: &'static str,
    pub title: &'static str,
    pub command: &'static str,
    /// Position of this section on the page; lower numbers come first.
    pub order: u32,
    pub notes: Vec<String>,
    summary: Vec<[String; 2]>,
    tables: Vec<Value>,
}

impl Figures {
    pub fn new(name: &'static str, title: &'static str, command: &'static str, order: u32) -> Self {
        Self { name, title, command, order, notes: Vec::new(), summary: Vec::new(), tables: Vec::new() }
    }

    /// Adds a row to the summary at the top of the page.
    pub fn add_summary(&mut self, label: &str, value: String) {
        self.summary.push([label.to_owned(), value]);
    }

    /// Adds a table and prints it to stderr.
    pub fn add_table(&mut self, title: &str, columns: &[&str], rows: &[Vec<Value>]) {
        let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let header: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        let lines: Vec<Vec<String>> =
            std::iter::once(header).chain(rows.iter().map(|row| row.iter().map(cell).collect())).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        eprintln!("\n{title}");
        for line in &lines {
            let cells = line.iter().enumerate().map(|(column, cell)| {
                let width = width(column);
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            eprintln!("  {}", cells.collect::<Vec<_>>().join("  "));
        }
        self.tables.push(json!({ "title": title, "columns": columns, "rows": rows }));
    }

    /// Writes `NAME.json` into the folder that `MONLIGHT_FIGURES` names; does nothing if the variable is not set or
    /// empty.
    pub fn save(&self) {
        let folder = std::env::var_os("MONLIGHT_FIGURES").filter(|folder| !folder.is_empty());
        let Some(folder) = folder else { return };
        let Self { name, title, command, order, notes, summary, tables } = self;
        let all = json!({
            "name": name, "title": title, "command": command, "order": order, "notes": notes, "summary": summary,
            "tables": tables, "ratios": [],
        });
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.json")), format!("{all:#}\n")).unwrap();
    }
}

/// Rounds a number to `decimals` decimal places.
pub fn round_to(number: f64, decimals: i32) -> Value {
    let scale = 10_f64.powi(decimals);
    json!((number * scale).round() / scale)
}
