//! The rim: how a process without a C library starts, and the few system calls that it makes. All that is unsafe
//! is here.

#![expect(
    unsafe_code,
    reason = "there is no C library and no runtime below this"
)]

use core::arch::{asm, global_asm};
use core::ffi::{CStr, c_char};
use core::slice;

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const WRITE: usize = 1;
    pub(super) const FSTAT: usize = 5;
    pub(super) const MMAP: usize = 9;
    pub(super) const EXECVE: usize = 59;
    pub(super) const EXIT_GROUP: usize = 231;
    pub(super) const OPENAT: usize = 257;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const OPENAT: usize = 56;
    pub(super) const WRITE: usize = 64;
    pub(super) const FSTAT: usize = 80;
    pub(super) const EXIT_GROUP: usize = 94;
    pub(super) const EXECVE: usize = 221;
    pub(super) const MMAP: usize = 222;
}

const STDERR: usize = 2;
const AT_FDCWD: usize = -100isize as usize;
const O_CLOEXEC: usize = 0o2_000_000;
const PROT_READ: usize = 1;
const PROT_WRITE: usize = 2;
const MAP_PRIVATE: usize = 2;
const MAP_ANONYMOUS: usize = 0x20;
/// Room for `struct stat`, and where `st_size` is in it, which is the same on both architectures.
const STAT_WORDS: usize = 18;
const STAT_SIZE_WORD: usize = 6;

// The kernel starts a process with the stack pointer at the number of arguments.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym start,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "mov x0, sp",
    "bl {start}",
    "brk #1",
    start = sym start,
);

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the ABI of each architecture puts the number of arguments here, then their pointers and a null, then
    // those of the environment and a null. All of it stays as long as the process does.
    let process = unsafe {
        let arguments = stack.add(1).cast::<*const c_char>();
        Process {
            arguments,
            environment: arguments.add(*stack).add(1),
        }
    };
    exit(crate::main(&process))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    say(b"keeper-exec: panicked\n");
    exit(125)
}

/// What the kernel handed over: lists of strings that end with a null.
pub(crate) struct Process {
    arguments: *const *const c_char,
    environment: *const *const c_char,
}

impl Process {
    /// The arguments with their NUL bytes.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &'static [u8]> + use<> {
        strings(self.arguments)
    }

    /// The entries of the environment with their NUL bytes.
    pub(crate) fn environment(&self) -> impl Iterator<Item = &'static [u8]> + use<> {
        strings(self.environment)
    }

    /// Whether the environment has a variable.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.environment()
            .any(|entry| keeper_exec::name(entry) == Some(name))
    }

    /// Runs `file` with the arguments from `first` on. Comes back only with an error.
    pub(crate) fn become_program(
        &self,
        file: &[u8],
        first: usize,
        environment: Environment,
    ) -> Errno {
        if file.last() != Some(&0) || self.arguments().count() < first {
            return Errno::INVALID;
        }
        // SAFETY: the strings end in NUL bytes and the lists in null, the list of arguments not before `first`.
        let result = unsafe {
            let arguments = self.arguments.add(first);
            call(
                number::EXECVE,
                [
                    file.as_ptr().expose_provenance(),
                    arguments.expose_provenance(),
                    environment.0.expose_provenance(),
                    0,
                    0,
                    0,
                ],
            )
        };
        result.err().unwrap_or(Errno::INVALID)
    }
}

/// A list of strings as `execve` takes it.
#[derive(Clone, Copy)]
pub(crate) struct Environment(*const *const u8);

/// Makes such a list of `entries`, at most `count` of them, all of which end in a NUL byte.
pub(crate) fn pointers(
    entries: impl Iterator<Item = &'static [u8]>,
    count: usize,
) -> Result<Environment, Errno> {
    let bytes = (count + 1) * size_of::<usize>();
    // SAFETY: asks for new memory, which the kernel fills with zeros.
    let memory = unsafe {
        call(
            number::MMAP,
            [
                0,
                bytes,
                PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS,
                usize::MAX,
                0,
            ],
        )
    }?;
    let list = core::ptr::with_exposed_provenance_mut::<*const u8>(memory);
    // SAFETY: `count` pointers and a null have room, and nothing else knows of it.
    let places = unsafe { slice::from_raw_parts_mut(list, count) };
    for (place, entry) in places.iter_mut().zip(entries) {
        *place = entry.as_ptr();
    }
    Ok(Environment(list.cast_const()))
}

/// The content of a file, `path` with its NUL byte. It is mapped and stays so.
pub(crate) fn map(path: &'static [u8]) -> Result<&'static [u8], Errno> {
    // SAFETY: the path ends in a NUL byte, as all arguments do.
    let file = unsafe {
        call(
            number::OPENAT,
            [
                AT_FDCWD,
                path.as_ptr().expose_provenance(),
                O_CLOEXEC,
                0,
                0,
                0,
            ],
        )
    }?;
    let mut stat = [0u64; STAT_WORDS];
    // SAFETY: the structure has 144 bytes on x86_64 and 128 on aarch64.
    unsafe {
        call(
            number::FSTAT,
            [file, stat.as_mut_ptr().expose_provenance(), 0, 0, 0, 0],
        )
    }?;
    let size = stat
        .get(STAT_SIZE_WORD)
        .copied()
        .and_then(|size| usize::try_from(size).ok())
        .unwrap_or(0);
    if size == 0 {
        return Ok(b"");
    }
    // SAFETY: asks for a new mapping.
    let memory = unsafe { call(number::MMAP, [0, size, PROT_READ, MAP_PRIVATE, file, 0]) }?;
    // SAFETY: the mapping has that size and is never undone. The agent replaces its files and never cuts them.
    Ok(unsafe { slice::from_raw_parts(core::ptr::with_exposed_provenance(memory), size) })
}

/// Writes to the standard error, as far as that goes.
pub(crate) fn say(text: &[u8]) {
    // SAFETY: the kernel reads that many bytes of it.
    let _written = unsafe {
        call(
            number::WRITE,
            [
                STDERR,
                text.as_ptr().expose_provenance(),
                text.len(),
                0,
                0,
                0,
            ],
        )
    };
}

fn exit(code: i32) -> ! {
    loop {
        // SAFETY: ends the process.
        let _never = unsafe {
            call(
                number::EXIT_GROUP,
                [code.cast_unsigned() as usize, 0, 0, 0, 0, 0],
            )
        };
    }
}

/// An error of the kernel's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(i32);

impl Errno {
    pub(crate) const NO_ENTRY: Self = Self(2);
    const TOO_LONG: Self = Self(7);
    const NO_FORMAT: Self = Self(8);
    pub(crate) const DENIED: Self = Self(13);
    pub(crate) const NO_DIRECTORY: Self = Self(20);
    const INVALID: Self = Self(22);

    /// What to say behind what failed.
    pub(crate) fn text(self) -> &'static [u8] {
        match self {
            Self::TOO_LONG => b": the environment and the arguments are too long",
            Self::NO_FORMAT => b": it is no program for this machine",
            Self::DENIED => b": permission denied",
            _ => b"",
        }
    }
}

/// Each string of a list that ends with a null, with its NUL byte.
fn strings(list: *const *const c_char) -> impl Iterator<Item = &'static [u8]> {
    let mut next = list;
    core::iter::from_fn(move || {
        // SAFETY: only the kernel's own lists come here, and the null is not passed.
        unsafe {
            let string = *next;
            if string.is_null() {
                return None;
            }
            next = next.add(1);
            Some(CStr::from_ptr(string).to_bytes_with_nul())
        }
    })
}

/// A system call.
///
/// # Safety
/// The arguments are what the call with that number takes.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: as the kernel's ABI has it; the rest is the caller's.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            out("rcx") _, out("r11") _, options(nostack));
    }
    answer(result)
}

/// A system call.
///
/// # Safety
/// The arguments are what the call with that number takes.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: as the kernel's ABI has it; the rest is the caller's.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack));
    }
    answer(result)
}

fn answer(result: isize) -> Result<usize, Errno> {
    match usize::try_from(result) {
        Ok(value) => Ok(value),
        Err(_) => Err(Errno(i32::try_from(result).map_or(0, i32::wrapping_neg))),
    }
}

/// What the compiler calls for larger copies and comparisons. Volatile, or it would make calls of the same out of them.
mod memory {
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
        for at in 0..count {
            // SAFETY: both are that long, says the caller.
            unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
        for at in 0..count {
            // SAFETY: it is that long, says the caller. Only the low byte counts.
            unsafe { to.add(at).write_volatile(byte.to_ne_bytes()[0]) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
        for at in 0..count {
            // SAFETY: both are that long, says the caller.
            let (one, other) =
                unsafe { (one.add(at).read_volatile(), other.add(at).read_volatile()) };
            if one != other {
                return i32::from(one) - i32::from(other);
            }
        }
        0
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
        // SAFETY: the caller's.
        unsafe { memcmp(one, other, count) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const u8) -> usize {
        let mut length = 0;
        // SAFETY: there is a NUL byte, says the caller.
        while unsafe { text.add(length).read_volatile() } != 0 {
            length += 1;
        }
        length
    }
}
