//! Tables for people: columns that align, the first row the heading. On a terminal they fit its width, and what stands in
//! them is painted as good or bad news.

use crate::terminal::{BAD, DOUBTFUL, GOOD, LABEL, visible};
use clap::builder::styling::Style;

/// A column is not made narrower than this to make a table fit.
const NARROW: usize = 8;
/// Between columns.
const GAP: &str = "  ";

/// A table as text: no wider than `width` if that can be, and with the colours of its words if `painted`.
pub(crate) fn text(rows: &[Vec<String>], width: Option<usize>, painted: bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| length(cell)).max();
    let mut widths: Vec<usize> = (0..columns).map(|column| widest(column).unwrap_or(0)).collect();
    if let Some(width) = width {
        narrow(&mut widths, width.saturating_sub(GAP.len() * columns.saturating_sub(1)));
    }
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let (cell, is_last) = (cut(cell, *width), column + 1 == row.len());
            let style = if painted { style_of(number, &cell) } else { Style::new() };
            let padding = if is_last { 0 } else { width.saturating_sub(length(&cell)) };
            line.push_str(&format!("{style}{cell}{style:#}{:padding$}", ""));
            if !is_last {
                line.push_str(GAP);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn length(cell: &str) -> usize {
    visible(cell).chars().count()
}

/// Takes from the widest column until all fit, or none can give any more.
fn narrow(widths: &mut [usize], all: usize) {
    while widths.iter().sum::<usize>() > all {
        let Some(widest) = widths.iter_mut().max().filter(|width| **width > NARROW) else { return };
        *widest -= 1;
    }
}

/// A cell that is too long ends with an ellipsis.
fn cut(cell: &str, width: usize) -> String {
    let cell = visible(cell);
    if cell.chars().count() <= width {
        return cell.into_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// The words that people look for. The first row is the heading.
fn style_of(row: usize, cell: &str) -> Style {
    match cell {
        _ if row == 0 => LABEL,
        "failed" | "killed" | "convicted" | "quarantine" => BAD,
        "waiting" | "suspected" => DOUBTFUL,
        "succeeded" => GOOD,
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cells: &[&[&str]]) -> Vec<Vec<String>> {
        cells.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn columns_align_and_nothing_trails() {
        assert_eq!(text(&rows(&[&["A", "LONG"], &["word", "x"]]), None, false), "A     LONG\nword  x\n");
        assert_eq!(text(&rows(&[&["A", "B"], &["", ""]]), None, false), "A  B\n\n");
        assert_eq!(text(&[], Some(10), true), "");
    }

    #[test]
    fn a_table_that_is_too_wide_gives_from_its_widest_column() {
        let rows = rows(&[&["JOB", "NAME", "STATE"], &["job-1", "a-name-that-goes-on-and-on", "succeeded"]]);
        let fitted = text(&rows, Some(30), false);
        assert_eq!(fitted, "JOB    NAME          STATE\njob-1  a-name-that…  succeeded\n");
        assert!(fitted.lines().all(|line| line.chars().count() <= 30));
        let least = text(&rows, Some(3), false);
        assert!(least.contains("a-name-…") && least.contains("succeed…"), "{least}");
    }

    #[test]
    fn words_are_painted_after_they_were_aligned() {
        let painted = text(&rows(&[&["STATE", "F"], &["failed", "1"]]), None, true);
        assert!(painted.contains(&format!("{BAD}failed{BAD:#}  1")), "{painted:?}");
        assert!(painted.contains(&format!("{LABEL}STATE{LABEL:#}   ")), "{painted:?}");
    }

    #[test]
    fn a_cell_cannot_command_the_terminal() {
        assert_eq!(text(&rows(&[&["\x1b[2J", "x"]]), None, false), "\\u{1b}[2J  x\n");
    }
}
