//! Configuration of glibc's allocator: one arena, and separate mappings for blocks from 128 KiB on, which return to the
//! system when they are freed. Measured: 10 MB resident, where the defaults keep over 20 MB on two cores.

/// Configures the allocator of this process. Must be called before any thread is started.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub(super) fn configure_allocator() {
    const THRESHOLD_BYTES: libc::c_int = 128 * 1024;
    let settings =
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, THRESHOLD_BYTES), (libc::M_TRIM_THRESHOLD, THRESHOLD_BYTES)];
    for (parameter, value) in settings {
        // SAFETY: mallopt takes two integers and no pointer, and no other thread that could allocate is running yet.
        unsafe {
            libc::mallopt(parameter, value);
        }
    }
}

/// Does nothing: other C libraries have no such settings.
#[cfg(not(target_env = "gnu"))]
pub(super) fn configure_allocator() {}
