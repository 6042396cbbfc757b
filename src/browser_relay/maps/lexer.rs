//! Words and brackets of JavaScript and TypeScript, line by line: as much of the language as [`super::scopes`] needs to
//! tell which function a line is in. No parser: what a source is (JSX, Vue, a dialect) is not known, so whatever looks
//! wrong is passed over, and a mistake should not outlive its line.

/// What stands in a line. Strings, numbers, templates and regular expressions are all a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    /// A string, without quotes.
    Quoted(&'a str),
    Value,
    /// `(`, `[`, `{`, or `$` for the hole of a template.
    Open(u8),
    /// `)`, `]`, `}`.
    Close(u8),
    /// `=>`.
    Arrow,
    /// Any other operator by its first byte; `=` only alone.
    Sign(u8),
}

/// Where a token stands: columns count from 0 in UTF-16 units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) column: u32,
    pub(super) end_column: u32,
    /// Whether it is the first of its line.
    pub(super) leads: bool,
}

/// Open braces that are remembered.
const BRACES_MAX: usize = 1_000;

/// What is known between lines.
#[derive(Default)]
pub(super) struct Lexer {
    comment: bool,
    /// Open braces: `{`, `$` for the hole of a template, and a backtick for a template itself.
    braces: Vec<u8>,
    /// What the latest token was.
    before: Before,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// An operator, an opening bracket, a keyword: an operand follows, and `/` begins a regular expression.
    #[default]
    Operator,
    Operand,
    /// A closing brace: either.
    Brace,
    /// `<`.
    Less,
}

/// Words behind which an operand follows.
const PREFIXES: [&str; 17] = [
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

/// Words that begin a statement at the left margin.
const STATEMENTS: [&str; 8] = ["function", "class", "export", "import", "const", "let", "var", "async"];

impl Lexer {
    /// Reads a line or a part of one. `take` answers nothing; [`Lexer::is_fresh`] is to be asked before.
    ///
    /// `start` is the column the part begins at, 0 for a line's first.
    pub(super) fn read<'a>(&mut self, part: &'a str, start: u32, mut take: impl FnMut(Token<'a>, Spot)) {
        let mut cursor =
            Cursor { text: part, bytes: part.as_bytes(), at: 0, counted: 0, column: start, endless: Vec::new() };
        let mut leads = start == 0;
        while cursor.at < part.len() {
            if self.comment {
                self.comment = !cursor.pass_to(b"*/");
                continue;
            }
            if self.braces.last() == Some(&b'`') {
                self.template(&mut cursor, &mut take);
                continue;
            }
            if cursor.bytes[cursor.at].is_ascii_whitespace() {
                cursor.at += 1;
                continue;
            }
            let from = cursor.at;
            let column = cursor.column();
            let Some(token) = self.token(&mut cursor) else { continue };
            debug_assert!(cursor.at > from);
            take(token, Spot { column, end_column: cursor.column(), leads });
            leads = false;
        }
    }

    /// Whether a line begins at the left margin what only stands outside of everything, or in code that is not indented:
    /// whatever was taken for open before may be forgotten.
    pub(super) fn is_fresh(&self, line: &str) -> bool {
        let first = line.split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default();
        let inside_text = self.comment || self.braces.contains(&b'`');
        !inside_text && STATEMENTS.contains(&first) || line.starts_with("<script") || line.starts_with("</script")
    }

    /// Forgets what is open.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    fn template<'a>(&mut self, cursor: &mut Cursor<'a>, take: &mut impl FnMut(Token<'a>, Spot)) {
        let rest = &cursor.bytes[cursor.at..];
        let Some(at) = memchr::memchr3(b'`', b'\\', b'$', rest) else {
            cursor.at = cursor.bytes.len();
            return;
        };
        cursor.at += at + 1;
        match rest[at] {
            b'`' => {
                self.braces.pop();
                self.before = Before::Operand;
                let column = cursor.column();
                take(Token::Value, Spot { column, end_column: column, leads: false });
            }
            b'$' if rest.get(at + 1) == Some(&b'{') => {
                cursor.at += 1;
                self.open(b'$');
                let column = cursor.column();
                take(Token::Open(b'$'), Spot { column, end_column: column, leads: false });
            }
            b'\\' => cursor.at = (cursor.at + 1).min(cursor.bytes.len()),
            _ => {}
        }
    }

    /// The token at the cursor; none where it is a comment or nothing that matters.
    fn token<'a>(&mut self, cursor: &mut Cursor<'a>) -> Option<Token<'a>> {
        let from = cursor.at;
        let byte = cursor.bytes[from];
        let next = cursor.bytes.get(from + 1).copied().unwrap_or_default();
        match byte {
            b'0'..=b'9' => {
                cursor.pass_while(|byte| is_word(byte) || byte == b'.');
                return Some(self.value());
            }
            byte if is_word(byte) => {
                cursor.at += 1;
                cursor.pass_while(|byte| is_word(byte) && byte != b'#');
                let word = &cursor.text[from..cursor.at];
                self.before = if PREFIXES.contains(&word) { Before::Operator } else { Before::Operand };
                return Some(Token::Word(word));
            }
            b'"' | b'\'' => return self.quoted(cursor, byte),
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
                self.comment = true;
                return None;
            }
            b'/' if self.before == Before::Operator && cursor.pass_regex() => return Some(self.value()),
            _ => {}
        }
        cursor.at += 1;
        Some(self.sign(cursor, byte, next))
    }

    fn sign<'a>(&mut self, cursor: &mut Cursor<'a>, byte: u8, next: u8) -> Token<'a> {
        self.before = Before::Operator;
        match byte {
            b'(' | b'[' => return Token::Open(byte),
            b'{' => {
                self.open(b'{');
                return Token::Open(byte);
            }
            b')' | b']' => {
                self.before = Before::Operand;
                return Token::Close(byte);
            }
            b'}' => {
                self.braces.pop();
                self.before = Before::Brace;
                return Token::Close(byte);
            }
            b'=' if next == b'>' => {
                cursor.at += 1;
                return Token::Arrow;
            }
            b'<' => self.before = Before::Less,
            _ => {}
        }
        // `==`, `+=`, `??`, `?.`, `&&` and the like count as one, and never as `=`, `?` or `.`.
        let twin = next == b'=' && b"=!<>+-*/%&|^".contains(&byte) || byte == next && b"?&|+-".contains(&byte);
        let optional = byte == b'?' && next == b'.';
        if !twin && !optional {
            return Token::Sign(byte);
        }
        cursor.at += 1;
        cursor.pass_while(|byte| byte == b'=');
        Token::Sign(if byte == b'=' || byte == b'?' { b'+' } else { byte })
    }

    fn quoted<'a>(&mut self, cursor: &mut Cursor<'a>, quote: u8) -> Option<Token<'a>> {
        let from = cursor.at;
        cursor.at += 1;
        // An apostrophe right behind a letter is one of JSX's texts.
        let in_word = from > 0 && is_word(cursor.bytes[from - 1]) && self.before == Before::Operand;
        if in_word || cursor.endless.contains(&quote) {
            return None;
        }
        let mut at = from + 1;
        while let Some(byte) = cursor.bytes.get(at) {
            match byte {
                b'\\' => at += 1,
                byte if *byte == quote => {
                    cursor.at = at + 1;
                    self.before = Before::Operand;
                    return Some(Token::Quoted(&cursor.text[from + 1..at]));
                }
                _ => {}
            }
            at += 1;
        }
        cursor.endless.push(quote);
        None
    }

    fn value<'a>(&mut self) -> Token<'a> {
        self.before = Before::Operand;
        Token::Value
    }

    fn open(&mut self, brace: u8) {
        if self.braces.len() == BRACES_MAX {
            self.braces.clear();
        }
        self.braces.push(brace);
        self.before = Before::Operator;
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'#') || byte >= 0x80
}

struct Cursor<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Up to where columns are counted, and what they came to.
    counted: usize,
    column: u32,
    /// What was looked for and does not end on this line: a quote, or `/` of a regular expression. It is not looked for
    /// again, since that could take the square of the line's length.
    endless: Vec<u8>,
}

impl Cursor<'_> {
    /// The column of the cursor.
    fn column(&mut self) -> u32 {
        for byte in &self.bytes[self.counted..self.at] {
            self.column += u32::from(byte & 0xc0 != 0x80) + u32::from(*byte >= 0xf0);
        }
        self.counted = self.at;
        self.column
    }

    fn pass_while(&mut self, belongs: impl Fn(u8) -> bool) {
        while self.bytes.get(self.at).is_some_and(|byte| belongs(*byte)) {
            self.at += 1;
        }
    }

    /// Passes everything up to and with `end`; answers whether it was there.
    fn pass_to(&mut self, end: &[u8]) -> bool {
        let found = memchr::memmem::find(&self.bytes[self.at..], end);
        self.at = found.map_or(self.bytes.len(), |at| self.at + at + end.len());
        found.is_some()
    }

    /// Passes a regular expression if one ends on this line.
    fn pass_regex(&mut self) -> bool {
        let mut class = false;
        let mut at = self.at + 1;
        while let Some(byte) = self.bytes.get(at).filter(|_| !self.endless.contains(&b'/')) {
            match byte {
                b'\\' => at += 1,
                b'[' => class = true,
                b']' => class = false,
                b'/' if !class => {
                    self.at = at + 1;
                    self.pass_while(|byte| byte.is_ascii_alphabetic());
                    return true;
                }
                _ => {}
            }
            at += 1;
        }
        self.endless.push(b'/');
        false
    }
}
