//! The log viewer: reads what Docker wrote down of every container's output.

#[cfg_attr(not(test), expect(dead_code, reason = "following and storing come around it"))]
mod text;
