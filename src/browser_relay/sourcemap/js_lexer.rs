//! Lexer for JavaScript and TypeScript, line by line, as far as [`super::scopes`] needs it to find functions.
//!
//! The lexer is incomplete on purpose. The dialect of a source (JSX, Vue, a future syntax) is unknown, so it skips whatever looks
//! wrong, and an error should not affect the following lines.

/// A token. Strings, numbers, templates and regular expressions are values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// An identifier or a keyword.
    Word(&'a str),
    /// A string in single or double quotes, without the quotes.
    Quoted(&'a str),
    /// Any other value.
    Value,
    /// `(`, `[`, `{`, or `$` for the `${` of a template.
    Open(u8),
    /// `)`, `]`, `}`.
    Close(u8),
    /// `=>`.
    Arrow,
    /// Any other operator, by its first byte. `=`, `?` and `.` only if they stand alone.
    Operator(u8),
}

/// Position of a token in its line. Columns start at 0 and count UTF-16 code units.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenColumns {
    pub(super) column: u32,
    pub(super) end_column: u32,
    /// Whether the token is the first of its line.
    pub(super) is_first_in_line: bool,
}

/// Maximum open braces that are tracked.
const BRACES_MAX: usize = 1_000;

/// Lexer state between lines.
#[derive(Default)]
pub(super) struct Lexer {
    is_in_comment: bool,
    /// Open braces: `{`, `$` for the `${` of a template, and a backtick for the template itself.
    braces: Vec<u8>,
    previous: PrevToken,
    /// Whether the source starts with `<`, like a Vue component. It contains scripts.
    is_markup: bool,
    has_token: bool,
}

/// Kind of the previous token, which decides whether `/` starts a regular expression.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum PrevToken {
    /// An operator, an opening bracket or a keyword: an operand follows, and `/` starts a regular expression.
    #[default]
    Operator,
    Operand,
    /// A closing brace, which may be followed by an operator or by an operand.
    ClosingBrace,
    /// `<`.
    Less,
}

/// Keywords that are followed by an operand.
const PREFIX_KEYWORDS: [&str; 17] = [
    "return",
    "typeof",
    "case",
    "in",
    "of",
    "delete",
    "void",
    "throw",
    "new",
    "else",
    "do",
    "await",
    "yield",
    "instanceof",
    "default",
    "extends",
    "export",
];

/// Keywords that start a statement at the beginning of a line.
const STATEMENT_KEYWORDS: [&str; 8] = ["function", "class", "export", "import", "const", "let", "var", "async"];

impl Lexer {
    /// Reads a line, or a part of one that starts at column `start`, and calls `sink` for each token. Before a line,
    /// check [`Lexer::is_top_level`].
    pub(super) fn read<'a>(&mut self, part: &'a str, start: u32, mut sink: impl FnMut(Token<'a>, TokenColumns)) {
        let mut cursor =
            Cursor { text: part, bytes: part.as_bytes(), at: 0, counted: 0, column: start, unterminated: Vec::new() };
        let mut is_first_in_line = start == 0;
        while cursor.at < part.len() {
            if self.is_in_comment {
                self.is_in_comment = !cursor.skip_past(b"*/");
                continue;
            }
            if self.braces.last() == Some(&b'`') {
                self.read_template(&mut cursor, &mut sink);
                continue;
            }
            if cursor.bytes[cursor.at].is_ascii_whitespace() {
                cursor.at += 1;
                continue;
            }
            let from = cursor.at;
            let column = cursor.column();
            let Some(token) = self.read_token(&mut cursor) else { continue };
            debug_assert!(cursor.at > from);
            if !self.has_token {
                (self.has_token, self.is_markup) = (true, token == Token::Operator(b'<'));
            }
            sink(token, TokenColumns { column, end_column: cursor.column(), is_first_in_line });
            is_first_in_line = false;
        }
    }

    /// Whether an unindented line starts with code that belongs to the top level, at least in indented sources. All open
    /// brackets can then be closed.
    pub(super) fn is_top_level(&self, line: &str) -> bool {
        let first_word = line.split(|character: char| !character.is_ascii_alphabetic()).next().unwrap_or_default();
        let is_in_text = self.is_in_comment || self.braces.contains(&b'`');
        match line.strip_prefix("</").or_else(|| line.strip_prefix('<')) {
            // In markup, an apostrophe or a backtick does not start text.
            Some(tag) => tag.starts_with("script") && (self.is_markup || !is_in_text),
            None => !is_in_text && STATEMENT_KEYWORDS.contains(&first_word) && !is_function_expression(line),
        }
    }

    /// Closes everything that is open.
    pub(super) fn reset(&mut self) {
        *self = Self { is_markup: self.is_markup, has_token: self.has_token, ..Self::default() };
    }

    fn read_template<'a>(&mut self, cursor: &mut Cursor<'a>, sink: &mut impl FnMut(Token<'a>, TokenColumns)) {
        let rest = &cursor.bytes[cursor.at..];
        let Some(at) = memchr::memchr3(b'`', b'\\', b'$', rest) else {
            cursor.at = cursor.bytes.len();
            return;
        };
        cursor.at += at + 1;
        match rest[at] {
            b'`' => {
                self.braces.pop();
                self.previous = PrevToken::Operand;
                let column = cursor.column();
                sink(Token::Value, TokenColumns { column, end_column: column, is_first_in_line: false });
            }
            b'$' if rest.get(at + 1) == Some(&b'{') => {
                cursor.at += 1;
                self.open(b'$');
                let column = cursor.column();
                sink(Token::Open(b'$'), TokenColumns { column, end_column: column, is_first_in_line: false });
            }
            b'\\' => cursor.at = (cursor.at + 1).min(cursor.bytes.len()),
            _ => {}
        }
    }

    /// Reads the token at the cursor. Returns `None` for comments and for characters that do not matter.
    fn read_token<'a>(&mut self, cursor: &mut Cursor<'a>) -> Option<Token<'a>> {
        let from = cursor.at;
        let byte = cursor.bytes[from];
        let next = cursor.bytes.get(from + 1).copied().unwrap_or_default();
        match byte {
            b'0'..=b'9' => {
                cursor.skip_while(|byte| is_word_byte(byte) || byte == b'.');
                return Some(self.value());
            }
            byte if is_word_byte(byte) => {
                cursor.at += 1;
                cursor.skip_while(|byte| is_word_byte(byte) && byte != b'#');
                let word = &cursor.text[from..cursor.at];
                self.previous = if PREFIX_KEYWORDS.contains(&word) { PrevToken::Operator } else { PrevToken::Operand };
                return Some(Token::Word(word));
            }
            b'"' | b'\'' => return self.read_quoted(cursor, byte),
            b'`' => {
                cursor.at += 1;
                self.open(b'`');
                return None;
            }
            b'/' if next == b'/' => {
                cursor.at = cursor.bytes.len();
                return None;
            }
            b'/' if next == b'*' => {
                cursor.at += 2;
                self.is_in_comment = true;
                return None;
            }
            b'/' if self.previous == PrevToken::Operator && cursor.skip_regex() => return Some(self.value()),
            _ => {}
        }
        cursor.at += 1;
        Some(self.read_operator(cursor, byte, next))
    }

    fn read_operator<'a>(&mut self, cursor: &mut Cursor<'a>, byte: u8, next: u8) -> Token<'a> {
        self.previous = PrevToken::Operator;
        match byte {
            b'(' | b'[' => return Token::Open(byte),
            b'{' => {
                self.open(b'{');
                return Token::Open(byte);
            }
            b')' | b']' => {
                self.previous = PrevToken::Operand;
                return Token::Close(byte);
            }
            b'}' => {
                self.braces.pop();
                self.previous = PrevToken::ClosingBrace;
                return Token::Close(byte);
            }
            b'=' if next == b'>' => {
                cursor.at += 1;
                return Token::Arrow;
            }
            b'<' => self.previous = PrevToken::Less,
            _ => {}
        }
        // `==`, `+=`, `??`, `?.`, `&&` and similar are one operator, and never `=`, `?` or `.`.
        let is_double = next == b'=' && b"=!<>+-*/%&|^".contains(&byte) || byte == next && b"?&|+-".contains(&byte);
        let is_optional_chain = byte == b'?' && next == b'.';
        if !is_double && !is_optional_chain {
            return Token::Operator(byte);
        }
        cursor.at += 1;
        cursor.skip_while(|byte| byte == b'=');
        Token::Operator(if byte == b'=' || byte == b'?' { b'+' } else { byte })
    }

    fn read_quoted<'a>(&mut self, cursor: &mut Cursor<'a>, quote: u8) -> Option<Token<'a>> {
        let from = cursor.at;
        cursor.at += 1;
        // An apostrophe directly after a letter belongs to JSX text.
        let is_apostrophe = from > 0 && is_word_byte(cursor.bytes[from - 1]) && self.previous == PrevToken::Operand;
        if is_apostrophe || cursor.unterminated.contains(&quote) {
            return None;
        }
        let mut at = from + 1;
        while let Some(byte) = cursor.bytes.get(at) {
            match byte {
                b'\\' => at += 1,
                byte if *byte == quote => {
                    cursor.at = at + 1;
                    self.previous = PrevToken::Operand;
                    return Some(Token::Quoted(&cursor.text[from + 1..at]));
                }
                _ => {}
            }
            at += 1;
        }
        cursor.unterminated.push(quote);
        None
    }

    fn value<'a>(&mut self) -> Token<'a> {
        self.previous = PrevToken::Operand;
        Token::Value
    }

    fn open(&mut self, brace: u8) {
        if self.braces.len() == BRACES_MAX {
            self.braces.clear();
        }
        self.braces.push(brace);
        self.previous = PrevToken::Operator;
    }
}

/// Whether a line starts with a function without a name, which cannot be a statement.
fn is_function_expression(line: &str) -> bool {
    let rest = line.strip_prefix("function").unwrap_or_default();
    rest.trim_start_matches([' ', '*']).starts_with('(')
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'#') || byte >= 0x80
}

/// Position in a line.
struct Cursor<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Byte offset up to which columns have been counted, and the column there.
    counted: usize,
    column: u32,
    /// Delimiters without an end on this line: a quote, or `/` of a regular expression. They are not searched again,
    /// because that could take time quadratic in the length of the line.
    unterminated: Vec<u8>,
}

impl Cursor<'_> {
    /// Returns the column of the cursor.
    fn column(&mut self) -> u32 {
        for byte in &self.bytes[self.counted..self.at] {
            self.column += u32::from(byte & 0xc0 != 0x80) + u32::from(*byte >= 0xf0);
        }
        self.counted = self.at;
        self.column
    }

    fn skip_while(&mut self, condition: impl Fn(u8) -> bool) {
        while self.bytes.get(self.at).is_some_and(|byte| condition(*byte)) {
            self.at += 1;
        }
    }

    /// Skips everything up to and including `end`, or the rest of the line. Returns whether `end` was found.
    fn skip_past(&mut self, end: &[u8]) -> bool {
        let found = memchr::memmem::find(&self.bytes[self.at..], end);
        self.at = found.map_or(self.bytes.len(), |at| self.at + at + end.len());
        found.is_some()
    }

    /// Skips a regular expression. Returns `false` if it does not end on this line.
    fn skip_regex(&mut self) -> bool {
        let mut is_in_class = false;
        let mut at = self.at + 1;
        while let Some(byte) = self.bytes.get(at).filter(|_| !self.unterminated.contains(&b'/')) {
            match byte {
                b'\\' => at += 1,
                b'[' => is_in_class = true,
                b']' => is_in_class = false,
                b'/' if !is_in_class => {
                    self.at = at + 1;
                    self.skip_while(|byte| byte.is_ascii_alphabetic());
                    return true;
                }
                _ => {}
            }
            at += 1;
        }
        self.unterminated.push(b'/');
        false
    }
}
