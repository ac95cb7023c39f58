//! Tables for people: a line of headings, then a line per row, columns aligned by two spaces at least.

use std::fmt::{self, Display};

/// A table under construction. Each row has as many cells as there are headings.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new<const COLUMNS: usize>(headings: [&'static str; COLUMNS]) -> Self {
        Self {
            headings: headings.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Appends a row; there must be one cell for each heading.
    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [&dyn Display; COLUMNS]) {
        assert_eq!(COLUMNS, self.headings.len(), "one cell for each heading");
        self.rows
            .push(cells.iter().map(|cell| cell.to_string()).collect());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| heading.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        write_line(f, &widths, self.headings.iter().copied())?;
        for row in &self.rows {
            write_line(f, &widths, row.iter().map(String::as_str))?;
        }
        Ok(())
    }
}

/// Writes one line; padding is only written before a further cell, so no line ends in spaces.
fn write_line<'a>(
    f: &mut fmt::Formatter<'_>,
    widths: &[usize],
    cells: impl Iterator<Item = &'a str>,
) -> fmt::Result {
    let mut padding = 0;
    for (cell, width) in cells.zip(widths) {
        if !cell.is_empty() {
            write!(f, "{:padding$}{cell}", "")?;
            padding = 0;
        }
        padding += width - cell.chars().count() + 2;
    }
    writeln!(f)
}

/// Names with one value each, aligned: for the summary of a single thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Summary {
    lines: Vec<(&'static str, String)>,
}

impl Summary {
    /// Appends a line.
    pub(crate) fn line(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.lines.push((name, value.to_string()));
        self
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or_default();
        for (name, value) in &self.lines {
            writeln!(f, "{name:width$}  {value}")?;
        }
        Ok(())
    }
}

/// A heading, underlined, above a part of an output that has several.
pub(crate) fn section(heading: &str) -> String {
    format!("{heading}\n{}\n", "=".repeat(heading.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "PARTITIONS", "NOTE"]);
        table.row([&"flights", &8, &"é"]);
        table.row([&"ä", &12_000_000_000_u64, &""]);
        assert_eq!(
            table.to_string(),
            "NAME     PARTITIONS   NOTE\n\
             flights  8            é\n\
             ä        12000000000\n"
        );
    }

    #[test]
    fn an_empty_cell_keeps_its_column() {
        let mut table = Table::new(["A", "B", "C"]);
        table.row([&"1", &"", &"3"]);
        assert_eq!(table.to_string(), "A  B  C\n1     3\n");
    }

    #[test]
    fn a_table_without_rows_is_its_headings() {
        assert_eq!(Table::new(["A", "BC"]).to_string(), "A  BC\n");
    }

    #[test]
    fn a_summary_aligns_its_values() {
        let mut summary = Summary::default();
        summary.line("NAME", "flights").line("PARTITIONS", 8);
        assert_eq!(summary.to_string(), "NAME        flights\nPARTITIONS  8\n");
    }

    #[test]
    fn a_section_is_underlined() {
        assert_eq!(section("CONFIGS"), "CONFIGS\n=======\n");
    }
}
