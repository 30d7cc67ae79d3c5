// SPDX-License-Identifier: GPL-2.0

//! KUnit tests: the suite `robust_list2`.
//!
//! Each test walks lists in real user memory, in an address space of its own. The selftests in
//! `tools/testing/selftests/futex/` cover what needs a dying thread: waiters, exec, fork.

use core::{
    fmt::Debug,
    mem::offset_of, //
};

use kernel::{
    kunit::UserMemory,
    num::casts,
    prelude::*,
    str::CStr,
    task::CurrentTask,
    uapi, //
};

use crate::{
    head::Head,
    pointer::Word,
    request::Request,
    table::{
        Index,
        OwnTable,
        Table, //
    },
    walk::{
        End,
        Walk, //
    },
};

/// Returns an error and prints both values unless they are equal.
///
/// The `assert` macros of KUnit work in the test functions only, and print no values.
#[track_caller]
fn check<T: PartialEq + Debug>(what: &CStr, got: T, expected: T) -> Result {
    if got == expected {
        return Ok(());
    }
    let line = core::panic::Location::caller().line();
    pr_err!("tests.rs:{line}: {what}: {got:?}, expected {expected:?}\n");
    Err(EINVAL)
}

/// [`check`] without a name: the line number is enough.
#[track_caller]
fn same<T: PartialEq + Debug>(got: T, expected: T) -> Result {
    check(c"not equal", got, expected)
}

/// The type and the address of a test's lists, by width. Nothing else is in the test's memory.
trait Width: Word {
    const TYPE: c_uint;
    const START: usize;

    /// The offset of `futex_offset` in a head, in bytes.
    const FUTEX_OFFSET: usize;

    /// The offset of `list_op_pending` in a head, in bytes.
    const LIST_OP_PENDING: usize;

    /// The lower half of a value, in a 32-bit list.
    fn word(value: usize) -> Self;
}

impl Width for u32 {
    const TYPE: c_uint = uapi::ROBUST_LIST_32BIT;
    const START: usize = 0x1000_0000;
    const FUTEX_OFFSET: usize = offset_of!(uapi::robust_list_head32, futex_offset);
    const LIST_OP_PENDING: usize = offset_of!(uapi::robust_list_head32, list_op_pending);

    fn word(value: usize) -> Self {
        // CAST: The upper half is cut off.
        value as u32
    }
}

impl Width for u64 {
    const TYPE: c_uint = uapi::ROBUST_LIST_64BIT;
    const START: usize = 0x12_3000_0000;
    const FUTEX_OFFSET: usize = offset_of!(uapi::robust_list_head, futex_offset);
    const LIST_OP_PENDING: usize = offset_of!(uapi::robust_list_head, list_op_pending);

    fn word(value: usize) -> Self {
        casts::usize_as_u64(value)
    }
}

fn walk_at<W: Width>(head: UserPtr, task: &CurrentTask) -> Result<End> {
    let mut walk = Walk::of_current(task).ok_or(EINVAL)?;
    Ok(walk.list(Head::new(head, W::TYPE)?))
}

/// The head in [`List::link`], which counts entries from 0.
const HEAD: usize = usize::MAX;

/// A list in user memory: the head, then entries of 16 bytes with the futex word in the second
/// half.
struct List<'a> {
    memory: UserMemory,
    task: &'a CurrentTask,
}

impl<'a> List<'a> {
    const ENTRY: usize = 16;
    const FUTEX: usize = 8;
    /// The offset of the first entry, behind the head.
    const ENTRIES: usize = 64;

    /// Makes a list of `len` entries, whose futexes the task owns.
    fn new<W: Width>(task: &'a CurrentTask, len: usize) -> Result<Self> {
        let memory = UserMemory::new(W::START, Self::ENTRIES + len * Self::ENTRY)?;
        let list = Self { memory, task };
        list.write(W::FUTEX_OFFSET, W::word(Self::FUTEX))?;
        list.write(W::LIST_OP_PENDING, W::word(0))?;

        list.link::<W>(HEAD, if len == 0 { HEAD } else { 0 }, 0)?;
        for n in 0..len {
            list.link::<W>(n, if n + 1 == len { HEAD } else { n + 1 }, 0)?;
            list.set_futex(n, list.tid())?;
        }
        Ok(list)
    }

    fn tid(&self) -> u32 {
        self.task.pid_nr_ns(None).unsigned_abs()
    }

    /// The offset of entry `n`, or of the head.
    fn offset(n: usize) -> usize {
        if n == HEAD {
            0
        } else {
            Self::ENTRIES + n * Self::ENTRY
        }
    }

    fn write<T: kernel::uaccess::UserWord>(&self, offset: usize, value: T) -> Result {
        self.memory.at(offset).write_word(value)
    }

    fn addr(&self, n: usize) -> usize {
        self.memory.at(Self::offset(n)).as_const_ptr().addr()
    }

    /// Points entry `from` to entry `to`, with `modifier` in the lowest bit of the pointer.
    fn link<W: Width>(&self, from: usize, to: usize, modifier: usize) -> Result {
        self.write(Self::offset(from), W::word(self.addr(to) | modifier))
    }

    fn set_pending<W: Width>(&self, n: usize) -> Result {
        self.write(W::LIST_OP_PENDING, W::word(self.addr(n)))
    }

    fn set_futex(&self, n: usize, value: u32) -> Result {
        self.write(Self::offset(n) + Self::FUTEX, value)
    }

    fn futex(&self, n: usize) -> Result<u32> {
        self.memory.at(Self::offset(n) + Self::FUTEX).read_word()
    }

    fn walk<W: Width>(&self) -> Result<End> {
        walk_at::<W>(self.memory.at(0), self.task)
    }

    /// How many of the first `len` futexes the walk has marked.
    fn marked(&self, len: usize) -> Result<usize> {
        let mut marked = 0;
        for n in 0..len {
            match self.futex(n)? {
                uapi::FUTEX_OWNER_DIED => marked += 1,
                word => check(c"a futex has an odd value", word, self.tid())?,
            }
        }
        Ok(marked)
    }
}

fn owned_futexes<W: Width>(task: &CurrentTask) -> Result {
    for len in [0, 1, 2, 3, 31, 32, 33, 100] {
        let list = List::new::<W>(task, len)?;
        check(c"the walk ends at the head", list.walk::<W>()?, End::Head)?;
        check(c"all futexes are marked", list.marked(len)?, len)?;
    }
    Ok(())
}

fn other_values<W: Width>(task: &CurrentTask) -> Result {
    let list = List::new::<W>(task, 5)?;
    let tid = list.tid();

    list.set_futex(0, 0)?;
    list.set_futex(1, tid + 1)?;
    list.set_futex(2, tid | uapi::FUTEX_WAITERS)?;
    list.set_futex(3, tid | uapi::FUTEX_OWNER_DIED)?;
    list.set_futex(4, (tid + 1) | uapi::FUTEX_WAITERS)?;
    check(c"the walk ends at the head", list.walk::<W>()?, End::Head)?;

    let died = uapi::FUTEX_OWNER_DIED;
    check(c"unlocked: untouched", list.futex(0)?, 0)?;
    check(c"another owner: untouched", list.futex(1)?, tid + 1)?;
    check(
        c"FUTEX_WAITERS stays",
        list.futex(2)?,
        died | uapi::FUTEX_WAITERS,
    )?;
    check(c"died twice", list.futex(3)?, died)?;
    let other = (tid + 1) | uapi::FUTEX_WAITERS;
    check(
        c"another owner with waiters: untouched",
        list.futex(4)?,
        other,
    )
}

fn pending_entry<W: Width>(task: &CurrentTask) -> Result {
    // Entry 2 is not in the list.
    let list = List::new::<W>(task, 3)?;
    list.link::<W>(1, HEAD, 0)?;
    list.set_pending::<W>(2)?;
    check(c"the walk ends at the head", list.walk::<W>()?, End::Head)?;
    check(c"the pending futex is marked too", list.marked(3)?, 3)?;
    drop(list);

    // Entry 1 is both in the list and pending.
    let list = List::new::<W>(task, 3)?;
    list.set_pending::<W>(1)?;
    check(c"the walk ends at the head", list.walk::<W>()?, End::Head)?;
    check(c"all futexes are marked", list.marked(3)?, 3)
}

fn pi_bit<W: Width>(task: &CurrentTask) -> Result {
    let list = List::new::<W>(task, 3)?;
    list.link::<W>(HEAD, 0, 1)?;
    list.link::<W>(1, 2, 1)?;
    list.set_pending::<W>(2)?;
    check(
        c"bit 0 is not part of the address",
        list.walk::<W>()?,
        End::Head,
    )?;
    check(c"all futexes are marked", list.marked(3)?, 3)
}

/// Lists of 12 held entries, the last of which points back to each of them.
fn circles<W: Width>(task: &CurrentTask) -> Result {
    const LEN: usize = 12;

    for target in 0..LEN {
        let list = List::new::<W>(task, LEN)?;
        list.link::<W>(LEN - 1, target, 0)?;
        check(c"the walk ends", list.walk::<W>()?, End::Limit)?;
        check(c"all futexes are marked", list.marked(LEN)?, LEN)?;
    }

    // The only entry of the cycle is the pending one, which the walk over the entries skips.
    let list = List::new::<W>(task, 1)?;
    list.link::<W>(0, 0, 0)?;
    list.set_pending::<W>(0)?;
    check(c"the walk ends", list.walk::<W>()?, End::Limit)?;
    check(c"the pending futex is marked", list.marked(1)?, 1)
}

/// Lists with held entries behind others.
fn others_limit<W: Width>(task: &CurrentTask) -> Result {
    // CAST: A small number.
    const LIMIT: usize = uapi::ROBUST_LIST_LIMIT as usize;

    for (others, marked, end) in [
        (LIMIT - 1, 2, End::Head),
        (LIMIT, 0, End::Limit),
        (LIMIT + 1, 0, End::Limit),
    ] {
        let list = List::new::<W>(task, others + 3)?;
        let died = |n| Ok::<_, Error>(list.futex(n)? == uapi::FUTEX_OWNER_DIED);
        // Entry 0 is held, the next ones are not, the last two are.
        for n in 1..=others {
            list.set_futex(n, list.tid() + 1)?;
        }
        check(c"where the walk ends", list.walk::<W>()?, end)?;
        check(c"the entry before the others", died(0)?, true)?;
        let behind = usize::from(died(others + 1)?) + usize::from(died(others + 2)?);
        check(c"entries behind the others", behind, marked)?;
    }
    Ok(())
}

/// Two lists share the limit of held entries.
fn held_limit<W: Width>(task: &CurrentTask) -> Result {
    const LEN: usize = 10;

    for (limit, first, second) in [(4, 4, 0), (9, 9, 0), (12, 9, 3), (20, 9, 9)] {
        let list = List::new::<W>(task, LEN)?;
        let head = Head::new(list.memory.at(0), W::TYPE)?;
        let mut walk = Walk::with_limit(task, limit).ok_or(EINVAL)?;
        let marked = || {
            (0..LEN - 1).try_fold(0, |marked, n| {
                Ok::<_, Error>(marked + usize::from(list.futex(n)? == uapi::FUTEX_OWNER_DIED))
            })
        };

        // The last entry is not held, and does not count.
        list.set_futex(LEN - 1, list.tid() + 1)?;
        walk.list(head);
        check(c"the first list", marked()?, first)?;

        // The second list is in the same memory. Its last entry is pending, which has no limit.
        for n in 0..LEN {
            list.set_futex(n, list.tid())?;
        }
        list.set_pending::<W>(LEN - 1)?;
        walk.list(head);
        check(c"the second list", marked()?, second)?;
        let pending = list.futex(LEN - 1)?;
        check(c"the pending futex", pending, uapi::FUTEX_OWNER_DIED)?;
    }
    Ok(())
}

fn faults<W: Width>(task: &CurrentTask) -> Result {
    // Entry 2 points to unmapped memory: the walk handles entry 2 and ends.
    let list = List::new::<W>(task, 4)?;
    list.write(List::offset(2), W::word(0x1000))?;
    list.set_pending::<W>(3)?;
    check(c"an entry cannot be read", list.walk::<W>()?, End::Fault)?;
    check(c"the futexes before it are marked", list.marked(4)?, 3)?;
    drop(list);

    // A futex that is not aligned ends the list.
    let list = List::new::<W>(task, 4)?;
    list.write(W::FUTEX_OFFSET, W::word(List::FUTEX + 2))?;
    check(c"a futex is not aligned", list.walk::<W>()?, End::Fault)?;
    check(c"no futex is marked", list.marked(4)?, 0)?;

    // The head is not mapped.
    let memory = UserMemory::new(W::START + 0x10_0000, 64)?;
    let nowhere = memory.at(0);
    drop(memory);
    check(
        c"the head cannot be read",
        walk_at::<W>(nowhere, task)?,
        End::Fault,
    )?;
    let end = walk_at::<W>(UserPtr::from_addr(0), task)?;
    check(c"an empty list", end, End::Empty)
}

/// The futex lies before its entry.
fn negative_offset<W: Width>(task: &CurrentTask) -> Result {
    let list = List::new::<W>(task, 4)?;
    // The futex of entry n is then that of entry n - 1, and that of entry 0 follows the head.
    let offset = List::FUTEX.wrapping_sub(List::ENTRY);
    list.write(W::FUTEX_OFFSET, W::word(offset))?;
    check(c"the walk ends at the head", list.walk::<W>()?, End::Head)?;
    check(c"all futexes but the last are marked", list.marked(4)?, 3)
}

fn long_list<W: Width>(task: &CurrentTask) -> Result {
    const LEN: usize = 5000;

    let list = List::new::<W>(task, LEN)?;
    check(c"the walk ends at the head", list.walk::<W>()?, End::Head)?;
    check(c"all futexes are marked", list.marked(LEN)?, LEN)
}

/// A test of the walk, for both widths.
macro_rules! for_both_widths {
    ($test:ident) => {{
        let task = current!();
        $test::<u32>(task)?;
        $test::<u64>(task)?;
        Ok(())
    }};
}

/// What [`Request::new`] makes of its arguments.
fn request(head: usize, index: c_int, flags: c_uint, is_64bit: bool) -> Result<Request> {
    Request::new(UserPtr::from_addr(head), index, flags, is_64bit)
}

#[kunit_tests(robust_list2)]
mod suite {
    use super::*;

    const BITS32: c_uint = uapi::ROBUST_LIST_32BIT;
    const BITS64: c_uint = uapi::ROBUST_LIST_64BIT;
    const UNREGISTER: c_uint = uapi::ROBUST_LIST_UNREGISTER;
    const QUERY_MAX: c_uint = uapi::ROBUST_LIST_QUERY_MAX;
    const RELEASE: c_uint = uapi::ROBUST_LIST_RELEASE;

    #[test]
    fn request_new_and_set() -> Result {
        let head = Head::new(UserPtr::from_addr(0x1004), BITS32)?;
        same(request(0x1004, -1, BITS32, true), Ok(Request::New(head)))?;
        same(request(0x1004, -1, BITS32, false), Ok(Request::New(head)))?;
        same(
            request(0x1004, 9, BITS32, true),
            Ok(Request::Set(Index::new(9)?, head)),
        )?;
        assert!(request(0, 0, BITS32, true).is_ok());
        same(request(0, -1, BITS32, true), Err(EINVAL))?;
        same(request(0x1004, -2, BITS32, true), Err(EINVAL))?;
        same(request(0x1004, 10, BITS32, true), Err(EINVAL))?;
        same(request(0x1004, c_int::MIN, BITS32, true), Err(EINVAL))?;
        same(request(0x1004, c_int::MAX, BITS32, true), Err(EINVAL))?;
        Ok(())
    }

    #[test]
    fn request_unknown_flags() -> Result {
        for bit in 4..32 {
            same(request(0x1000, -1, 1 << bit, true), Err(EINVAL))?;
            same(request(0, -1, QUERY_MAX | 1 << bit, true), Err(EINVAL))?;
        }
        same(request(0, -1, QUERY_MAX | UNREGISTER, true), Err(EINVAL))?;
        same(request(0, 0, QUERY_MAX | UNREGISTER, true), Err(EINVAL))?;
        for operations in [
            UNREGISTER | RELEASE,
            QUERY_MAX | RELEASE,
            UNREGISTER | QUERY_MAX | RELEASE,
        ] {
            same(request(0, 0, operations, true), Err(EINVAL))?;
            same(request(0, -1, operations, true), Err(EINVAL))?;
        }
        Ok(())
    }

    #[test]
    fn request_operations() -> Result {
        let unregister = Request::Unregister(Index::new(3)?);
        same(request(0, 3, UNREGISTER, true), Ok(unregister))?;
        // The call ignores the type bit, even where no list can have that type.
        same(request(0, 3, UNREGISTER | 1, false), Ok(unregister))?;
        same(request(0, -1, UNREGISTER, true), Err(EINVAL))?;
        same(request(0, 10, UNREGISTER, true), Err(EINVAL))?;
        same(request(0x1000, 3, UNREGISTER, true), Err(EINVAL))?;

        let release = Request::Release(Index::new(3)?);
        same(request(0, 3, RELEASE, true), Ok(release))?;
        same(request(0, 3, RELEASE | 1, false), Ok(release))?;
        same(request(0, -1, RELEASE, true), Err(EINVAL))?;
        same(request(0, 10, RELEASE, true), Err(EINVAL))?;
        same(request(0x1000, 3, RELEASE, true), Err(EINVAL))?;

        same(request(0, -1, QUERY_MAX, true), Ok(Request::QueryMax))?;
        same(request(0, -1, QUERY_MAX | 1, true), Err(EINVAL))?;
        same(request(0, 0, QUERY_MAX, true), Err(EINVAL))?;
        same(request(0x1000, -1, QUERY_MAX, true), Err(EINVAL))?;
        Ok(())
    }

    #[test]
    fn head_alignment() -> Result {
        for addr in 0x1000..0x1010 {
            same(request(addr, -1, BITS32, true).is_ok(), addr % 4 == 0)?;
            same(request(addr, -1, BITS64, true).is_ok(), addr % 8 == 0)?;
        }
        Ok(())
    }

    #[test]
    fn head_below_4gib() -> Result {
        // 0xffff_fff4 is the last aligned address with room for 12 bytes.
        assert!(request(0xffff_fff4, -1, BITS32, true).is_ok());
        same(request(0xffff_fff8, -1, BITS32, true), Err(EINVAL))?;
        same(request(0xffff_fffc, -1, BITS32, true), Err(EINVAL))?;
        same(request(0x1_0000_0000, -1, BITS32, true), Err(EINVAL))?;
        assert!(request(0x1_0000_0000, -1, BITS64, true).is_ok());
        same(request(0x1_0000_1004, 0, BITS32, true), Err(EINVAL))?;
        same(request(usize::MAX - 7, -1, BITS32, true), Err(EINVAL))?;
        Ok(())
    }

    #[test]
    fn head_64bit_of_32bit_task() -> Result {
        same(request(0x1000, -1, BITS64, false), Err(EINVAL))?;
        same(request(0x1000, 0, BITS64, false), Err(EINVAL))?;
        same(request(0, 0, BITS64, false), Err(EINVAL))?;
        Ok(())
    }

    #[test]
    fn slot_keeps_head() -> Result {
        for (flags, addrs) in [
            (BITS32, &[0, 4, 0x1004, 0xffff_fff4][..]),
            (
                BITS64,
                &[0, 8, 0x1008, 0xffff_fff8, 0x1_0000_0000, usize::MAX - 7],
            ),
        ] {
            for &addr in addrs {
                let head = Head::new(UserPtr::from_addr(addr), flags)?;
                same(head.is_64bit(), flags == BITS64)?;
                same(head.address().as_const_ptr().addr(), addr)?;
                let slot = Head::into_slot(Some(head));
                assert!(slot != Head::into_slot(None));
                same(Head::from_slot(slot), Some(head))?;
            }
        }
        assert!(Head::from_slot(Head::into_slot(None)).is_none());
        Ok(())
    }

    fn head(addr: usize) -> Result<Head> {
        Head::new(UserPtr::from_addr(addr), BITS32)
    }

    fn own(table: &Table) -> OwnTable<'_> {
        // SAFETY: No other task can reach the table of a test.
        unsafe { OwnTable::new(table) }
    }

    #[test]
    fn table_lowest_free_index() -> Result {
        let shared = KBox::init(Table::new(head(0x100)?), GFP_KERNEL)?;
        let table = own(&shared);
        same(table.get(Index::new(0)?), Some(head(0x100)?))?;
        for n in 1..10 {
            assert!(table.get(Index::new(n)?).is_none());
            same(table.insert(head(0x200)?), Index::new(n))?;
        }
        same(table.insert(head(0x300)?), Err(ENOSPC))?;

        table.replace(Index::new(7)?, None)?;
        table.replace(Index::new(2)?, None)?;
        same(table.insert(head(0x300)?), Index::new(2))?;
        same(table.insert(head(0x304)?), Index::new(7))?;
        same(table.insert(head(0x308)?), Err(ENOSPC))?;
        same(table.get(Index::new(7)?), Some(head(0x304)?))?;
        same(shared.get(Index::new(7)?), Some(head(0x304)?))?;
        Ok(())
    }

    #[test]
    fn table_replace() -> Result {
        let shared = KBox::init(Table::new(head(0x100)?), GFP_KERNEL)?;
        let table = own(&shared);
        let (first, second) = (Index::new(0)?, Index::new(1)?);

        same(table.replace(second, Some(head(0x200)?)), Err(ENOENT))?;
        same(table.replace(second, None), Err(ENOENT))?;
        assert!(table.get(second).is_none());

        // An empty list still has its slot.
        same(table.replace(first, Some(head(0)?)), head(0x100))?;
        same(table.get(first), Some(head(0)?))?;
        same(table.insert(head(0x200)?), Ok(second))?;

        same(table.replace(first, None), head(0))?;
        same(table.replace(first, None), Err(ENOENT))?;
        same(table.replace(first, Some(head(0x100)?)), Err(ENOENT))?;
        assert!(table.iter().eq([head(0x200)?]));
        Ok(())
    }

    #[test]
    fn table_clear_pending() -> Result {
        let shared = KBox::init(Table::new(head(0x100)?), GFP_KERNEL)?;
        let table = own(&shared);
        table.insert(head(0x200)?)?;
        table.insert(head(0)?)?;

        // No `list_op_pending` is at NULL, at a head, or in an empty list.
        for pop in [0, 0x204, 0x200, 8, 0x300] {
            table.clear_pending(UserPtr::from_addr(pop), BITS32);
        }
        // Not of this width.
        table.clear_pending(UserPtr::from_addr(0x210), BITS64);
        assert!(table.iter().eq([head(0x100)?, head(0x200)?, head(0)?]));

        table.clear_pending(UserPtr::from_addr(0x208), BITS32);
        assert!(table.iter().eq([head(0x100)?, head(0)?, head(0)?]));
        Ok(())
    }

    #[test]
    fn walk_marks_owned_futexes() -> Result {
        for_both_widths!(owned_futexes)
    }

    #[test]
    fn walk_leaves_other_futexes() -> Result {
        for_both_widths!(other_values)
    }

    #[test]
    fn walk_handles_pending() -> Result {
        for_both_widths!(pending_entry)
    }

    #[test]
    fn walk_masks_pi_bit() -> Result {
        for_both_widths!(pi_bit)
    }

    #[test]
    fn walk_ends_in_circles() -> Result {
        for_both_widths!(circles)
    }

    #[test]
    fn walk_gives_up_others() -> Result {
        for_both_widths!(others_limit)
    }

    #[test]
    fn walk_bounds_held() -> Result {
        for_both_widths!(held_limit)
    }

    #[test]
    fn walk_stops_at_faults() -> Result {
        for_both_widths!(faults)
    }

    #[test]
    fn walk_negative_offset() -> Result {
        for_both_widths!(negative_offset)
    }

    #[test]
    fn walk_long_list() -> Result {
        for_both_widths!(long_list)
    }
}
