//! Columns of text.

use crate::output::{Colour, paint};
use crate::text::clean;

/// A place in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    /// An empty text shows as `-`.
    pub(crate) fn new(text: impl AsRef<str>) -> Cell {
        let text = match text.as_ref() {
            "" => "-".to_owned(),
            text => clean(text).into_owned(),
        };
        Cell { text, colour: None }
    }

    pub(crate) fn coloured(text: impl AsRef<str>, colour: Colour) -> Cell {
        Cell {
            colour: Some(colour),
            ..Cell::new(text)
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Rows under a heading, each column as wide as its widest cell so far.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    heading: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
    widths: Vec<usize>,
}

impl Table {
    pub(crate) fn new<'a>(heading: impl IntoIterator<Item = &'a str>) -> Table {
        let heading: Vec<Cell> = heading.into_iter().map(Cell::new).collect();
        Table {
            widths: heading.iter().map(Cell::width).collect(),
            heading,
            rows: Vec::new(),
        }
    }

    /// Makes the first column at least so wide.
    pub(crate) fn widen_first(&mut self, width: usize) {
        if let Some(first) = self.widths.first_mut() {
            *first = width.max(*first);
        }
    }

    /// Makes columns at least so wide.
    pub(crate) fn widen(&mut self, widths: &[usize]) {
        for (width, least) in self.widths.iter_mut().zip(widths) {
            *width = (*width).max(*least);
        }
    }

    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = cell.width().max(*width);
        }
        self.rows.push(row);
    }

    /// Heading and rows.
    pub(crate) fn render(&self, colour: bool) -> String {
        std::iter::once(&self.heading)
            .chain(&self.rows)
            .map(|row| self.line(row, colour))
            .collect()
    }

    /// Takes the rows out and renders them without the heading; widths stay.
    pub(crate) fn drain(&mut self, colour: bool) -> String {
        let rows = std::mem::take(&mut self.rows);
        rows.iter().map(|row| self.line(row, colour)).collect()
    }

    fn line(&self, row: &[Cell], colour: bool) -> String {
        let mut line = String::new();
        // Spaces are owed until something stands after them.
        let mut owed = 0;
        for (cell, width) in row.iter().zip(&self.widths) {
            line.push_str(&" ".repeat(owed));
            line.push_str(&paint(colour, cell.colour, &cell.text));
            owed = width - cell.width() + 3;
        }
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let mut t = Table::new(["NAME", "X"]);
        t.push(vec![Cell::new("a"), Cell::coloured("ok", Colour::Green)]);
        t.push(vec![Cell::new("long\x1bname"), Cell::new("")]);
        assert_eq!(
            t.render(false),
            "NAME        X\na           ok\nlong\u{fffd}name   -\n"
        );
        assert_eq!(
            t.drain(true),
            "a           \x1b[32mok\x1b[0m\nlong\u{fffd}name   -\n"
        );
        t.push(vec![Cell::new("b"), Cell::new("c")]);
        assert_eq!(t.drain(false), "b           c\n");
    }
}
