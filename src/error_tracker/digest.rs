//! List of the error groups in a digest: by project, the most important first, within the length of a message.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use rusqlite::{Connection, OptionalExtension as _};

use crate::alerting::{AlertSubject, DigestContent, HeldAlert};
use crate::error::Result;
use crate::notify::Fact;
use crate::text::{replace_control_chars, truncate_chars};

/// Maximum number of lines about single groups, of all projects together.
const LINES_MAX: usize = 45;
/// Lines that each project has at least, if it holds as many groups.
const PROJECT_LINES_MIN: usize = 3;
/// Maximum number of projects that a digest names.
const PROJECTS_MAX: usize = 15;
/// Maximum number of ranges of ids in the line about further groups of a project.
const RANGES_MAX: usize = 8;
const LINE_CHARS_MAX: usize = 105;
const PROJECT_CHARS_MAX: usize = 60;

/// Groups of one project, in the order of their importance.
struct Project<'a> {
    name: &'a str,
    held: Vec<&'a HeldAlert>,
}

/// Renders the groups of `held`, which starts with the most important alerts.
pub(super) fn digest_content(reader: &Connection, held: &[HeldAlert]) -> Result<DigestContent> {
    let projects = by_project(held);
    let lines_max = (LINES_MAX / projects.len().clamp(1, PROJECTS_MAX)).max(PROJECT_LINES_MIN);
    let mut excerpt = String::new();
    for project in projects.iter().take(PROJECTS_MAX) {
        let alerts: i64 = project.held.iter().map(|held| held.alerts).sum();
        let name = replace_control_chars(&truncate_chars(project.name, PROJECT_CHARS_MAX));
        let name = if name.is_empty() { "(no project)" } else { &name };
        let _ = writeln!(excerpt, "{name}: {alerts} {}", if alerts == 1 { "alert" } else { "alerts" });
        let (listed, further) = project.held.split_at(lines_max.min(project.held.len()));
        for held in listed {
            let _ = writeln!(excerpt, "  {}", line(reader, held)?);
        }
        if !further.is_empty() {
            let _ = writeln!(excerpt, "  and {} more: {}", further.len(), id_ranges(further));
        }
    }
    if let Some(more) = projects.get(PROJECTS_MAX..).filter(|more| !more.is_empty()) {
        let groups: usize = more.iter().map(|project| project.held.len()).sum();
        let _ = writeln!(excerpt, "and {groups} groups of {} more projects", more.len());
    }
    let groups = held.iter().map(id).collect::<BTreeSet<_>>().len();
    let facts = vec![Fact { key: "groups", label: "Groups", value: groups.to_string() }];
    Ok(DigestContent { facts, excerpt })
}

fn id(held: &HeldAlert) -> i64 {
    let AlertSubject::ErrorGroup(id) = held.subject;
    id
}

/// Groups the alerts by project. The first project is that of the most important alert.
fn by_project(held: &[HeldAlert]) -> Vec<Project<'_>> {
    let mut projects: Vec<Project<'_>> = Vec::new();
    for held in held {
        match projects.iter_mut().find(|project| project.name == held.project) {
            Some(project) => project.held.push(held),
            None => projects.push(Project { name: &held.project, held: vec![held] }),
        }
    }
    projects
}

/// Renders one group as `#12 critical ValueError: boom (3 reports)`.
fn line(reader: &Connection, held: &HeldAlert) -> Result<String> {
    let mut read = reader.prepare_cached("SELECT exception_type, message, count FROM error_groups WHERE id = ?1")?;
    let group = read
        .query_row([id(held)], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)));
    let critical = if held.is_critical { "critical " } else { "" };
    let text = match group.optional()? {
        Some((exception_type, message, count)) => {
            let title = replace_control_chars(&format!("{exception_type}: {message}"));
            format!(
                "{} ({count} {})",
                truncate_chars(&title, LINE_CHARS_MAX),
                if count == 1 { "report" } else { "reports" }
            )
        }
        None => "deleted".to_owned(),
    };
    Ok(format!("#{} {critical}{text}", id(held)))
}

/// Renders ids as `#3-#7, #9`.
fn id_ranges(held: &[&HeldAlert]) -> String {
    let ids: BTreeSet<i64> = held.iter().map(|held| id(held)).collect();
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for id in ids {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == id => *end = id,
            _ => ranges.push((id, id)),
        }
    }
    let text = |(start, end): &(i64, i64)| if start == end { format!("#{start}") } else { format!("#{start}-#{end}") };
    let shown: Vec<String> = ranges.iter().take(RANGES_MAX).map(text).collect();
    format!("{}{}", shown.join(", "), if ranges.len() > RANGES_MAX { ", …" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::super::SCHEMA;
    use super::*;
    use crate::db::in_memory;
    use crate::records::key_kind::KeyKind;

    fn held(id: i64, project: &str, is_critical: bool) -> HeldAlert {
        let (subject, project) = (AlertSubject::ErrorGroup(id), project.to_owned());
        HeldAlert { subject, project, key_kind: KeyKind::Server, is_critical, alerts: 1 }
    }

    #[test]
    fn every_id_is_in_a_line_or_in_a_range() {
        in_memory(SCHEMA, |connection| {
            let mut all = vec![held(500, "payments", true)];
            all.extend((1..=300).filter(|id| *id != 250).map(|id| held(id, "shop", false)));
            let content = digest_content(connection, &all)?;
            let lines: Vec<&str> = content.excerpt.lines().collect();
            assert_eq!(
                lines[..4],
                ["payments: 1 alert", "  #500 critical deleted", "shop: 299 alerts", "  #1 deleted"]
            );
            assert_eq!(lines.last(), Some(&"  and 277 more: #23-#249, #251-#300"));
            assert_eq!((lines.len(), content.facts[0].value.as_str()), (26, "300"));
            Ok(())
        });
    }

    #[test]
    fn the_longest_list_fits_into_a_message() {
        in_memory(SCHEMA, |connection| {
            let all: Vec<HeldAlert> =
                (0..500).map(|n| held(1_000_000 + n * 2, &format!("{}{}", "p".repeat(90), n % 40), false)).collect();
            let content = digest_content(connection, &all)?;
            assert!(content.excerpt.ends_with("and 305 groups of 25 more projects\n"), "{}", content.excerpt);
            // The excerpt of a message has 8,000 characters; here its lines are those of deleted groups.
            let lines = PROJECTS_MAX * PROJECT_LINES_MIN;
            let longest = content.excerpt.len() + lines * (LINE_CHARS_MAX - " deleted".len());
            assert!(longest <= 8_000, "{longest}");
            Ok(())
        });
    }
}
