//! glibc's allocator, told to give memory back: one arena, and blocks from 128 KiB on as mappings of their own, which
//! return to the system when they are freed. Measured: 10 MB where the defaults of two cores keep 20 and more.

/// Sets the limits for the rest of the process's life. Call it before any thread is started.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub(super) fn tune() {
    const THRESHOLD_BYTES: libc::c_int = 128 * 1024;
    let settings =
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, THRESHOLD_BYTES), (libc::M_TRIM_THRESHOLD, THRESHOLD_BYTES)];
    for (parameter, value) in settings {
        // SAFETY: mallopt takes two integers and no pointer; no other thread runs yet that could allocate meanwhile.
        unsafe {
            libc::mallopt(parameter, value);
        }
    }
}

/// Other C libraries have no such settings.
#[cfg(not(target_env = "gnu"))]
pub(super) fn tune() {}
