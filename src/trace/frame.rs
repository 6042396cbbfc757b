//! The model of a stack frame that all languages share.

/// One call in a stack trace. A member that the trace does not state is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame<'t> {
    /// A path, a URL or the name of a class's source file.
    pub file: Option<&'t str>,
    /// Line number, from 1.
    pub line: Option<u32>,
    /// Column number, from 1.
    pub column: Option<u32>,
    /// Name of the function, without its arguments.
    pub function: Option<&'t str>,
    /// Class, package or application that the function belongs to.
    pub module: Option<&'t str>,
    /// Whether the frame is the program's own code rather than a library's or the runtime's.
    pub in_app: bool,
    /// Source lines around the frame's line, in ascending order.
    pub context: Vec<ContextLine<'t>>,
}

/// One source line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextLine<'t> {
    /// Line number, from 1.
    pub line: u32,
    /// The line without its indentation.
    pub text: &'t str,
}

/// A frame and its extent in the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameExtent<'t> {
    /// The frame itself.
    pub frame: Frame<'t>,
    /// Lines of the trace that the frame covers, at least 1.
    pub lines: usize,
    /// Whether the same line also states the error, as the first line of a Ruby trace does.
    pub states_error: bool,
}

impl<'t> FrameExtent<'t> {
    /// Wraps a frame that covers `lines` lines and states no error.
    pub(super) fn new(frame: Frame<'t>, lines: usize) -> Self {
        Self { frame, lines, states_error: false }
    }
}
