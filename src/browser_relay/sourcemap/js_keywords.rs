//! Keywords of JavaScript and TypeScript by their role for [`super::scopes`].

/// Keywords before parentheses or a block that are not methods.
pub(super) const CONTROL_KEYWORDS: [&str; 16] = [
    "if", "for", "while", "switch", "catch", "with", "return", "typeof", "await", "yield", "throw", "new", "else",
    "do", "async", "function",
];
/// Keywords after which a statement continues on the next line.
pub(super) const UNFINISHED_KEYWORDS: [&str; 19] = [
    "const",
    "let",
    "var",
    "export",
    "default",
    "import",
    "from",
    "extends",
    "else",
    "function",
    "class",
    "async",
    "static",
    "typeof",
    "new",
    "case",
    "return",
    "throw",
    "implements",
];
/// Keywords that continue the statement of the previous line.
pub(super) const CONTINUING_KEYWORDS: [&str; 7] =
    ["instanceof", "in", "of", "as", "satisfies", "extends", "implements"];
/// Keywords before the name of a class member.
pub(super) const MODIFIERS: [&str; 10] =
    ["static", "async", "get", "set", "public", "private", "protected", "readonly", "override", "accessor"];
