//! Tables that a run came to: printed, and left for `docs/benchmarks.md` where `MONLIGHT_FIGURES` names a folder.

use std::path::Path;

use serde_json::{Value, json};

/// One file of figures.
pub struct Figures {
    pub name: &'static str,
    pub title: &'static str,
    pub command: &'static str,
    /// Where it stands among the others.
    pub order: u32,
    pub notes: Vec<String>,
    summary: Vec<[String; 2]>,
    tables: Vec<Value>,
}

impl Figures {
    pub fn new(name: &'static str, title: &'static str, command: &'static str, order: u32) -> Self {
        Self { name, title, command, order, notes: Vec::new(), summary: Vec::new(), tables: Vec::new() }
    }

    /// Adds what the page says in short.
    pub fn in_short(&mut self, what: &str, said: String) {
        self.summary.push([what.to_owned(), said]);
    }

    /// Adds a table, and prints it.
    pub fn table(&mut self, title: &str, columns: &[&str], rows: &[Vec<Value>]) {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let head: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        let lines: Vec<Vec<String>> =
            std::iter::once(head).chain(rows.iter().map(|row| row.iter().map(text).collect())).collect();
        let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
        eprintln!("\n{title}");
        for line in &lines {
            let cells = line.iter().enumerate().map(|(at, cell)| {
                let width = width(at);
                if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            eprintln!("  {}", cells.collect::<Vec<_>>().join("  "));
        }
        self.tables.push(json!({ "title": title, "columns": columns, "rows": rows }));
    }

    /// Leaves them where they are asked for.
    pub fn leave(&self) {
        let Some(folder) = std::env::var_os("MONLIGHT_FIGURES") else { return };
        let Self { name, title, command, order, notes, summary, tables } = self;
        let all = json!({
            "name": name, "title": title, "command": command, "order": order, "notes": notes, "summary": summary,
            "tables": tables, "ratios": [],
        });
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.json")), format!("{all:#}\n")).unwrap();
    }
}

/// A number with so many digits after its point, as tables have it.
pub fn rounded(number: f64, digits: i32) -> Value {
    let scale = 10_f64.powi(digits);
    json!((number * scale).round() / scale)
}
