//! Numbers and tables as people read them.

use super::spread::Spread;

/// Four digits that matter, and no more zeros than are needed.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "not measured".to_owned()
    } else if value == 0.0 || value.is_infinite() {
        value.to_string()
    } else if !(1e-3..1e7).contains(&size) {
        let text = format!("{value:.2e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
    } else {
        let decimals = (3 - size.log10().floor() as i32).max(0) as usize;
        let text = format!("{value:.decimals$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    }
}

/// The median with the range around it, where there is one.
pub fn spread(spread: Spread) -> String {
    if spread.low == spread.high || spread.median.is_nan() {
        number(spread.median)
    } else {
        format!("{} ({}–{})", number(spread.median), number(spread.low), number(spread.high))
    }
}

/// A table in Markdown, with its columns aligned so that it is also read as plain text.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let length = |text: &str| text.chars().count();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| length(cell));
        cells.chain([length(head[column])]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = widths.iter().zip(cells).map(|(width, cell)| format!(" {cell:<width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule: String = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2))).collect();
    format!("{}|{rule}\n{}", line(&head), rows.iter().map(|row| line(row)).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits() {
        let shown = [12345.6, 1000.0, 123.456, 1.0, 0.25, 0.123456, 0.0123456, 1e-9, 1.25e8, 0.0, -2.5].map(number);
        assert_eq!(shown, ["12346", "1000", "123.5", "1", "0.25", "0.1235", "0.01235", "1e-9", "1.25e8", "0", "-2.5"]);
        assert_eq!(number(f64::NAN), "not measured");
        assert_eq!(number(f64::INFINITY), "inf");
    }

    #[test]
    fn a_spread_of_one_value_is_that_value() {
        assert_eq!(spread(Spread::one(1.5)), "1.5");
        assert_eq!(spread(Spread { low: 1.0, median: 1.5, high: 2.0 }), "1.5 (1–2)");
    }
}
