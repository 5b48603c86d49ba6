//! Kernels before 6.13 give a program 512 bytes of stack with all functions that it calls, and refuse one byte more.

use std::collections::{BTreeMap, BTreeSet};

use aya_obj::Object;
use aya_obj::generated::bpf_insn;

use super::programs::OBJECT;

const LIMIT: usize = 512;
/// Each function takes a multiple of this.
const UNIT: usize = 32;

/// `linux/bpf.h`.
const FRAME: u8 = 10;
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
const CALL: u8 = 0x85;
const OF_PROGRAM: u8 = 1;
/// Classes of instructions that load and store.
const MEMORY: std::ops::RangeInclusive<u8> = LOAD..=3;
const LOAD: u8 = 1;

/// Bytes of the frame that a stretch of code reaches, itself or by pointers that it makes of the frame's.
fn reach(code: &[bpf_insn]) -> usize {
    let mut deepest = 0;
    // Registers that are the frame's pointer, as far as it was copied above.
    let mut copies = BTreeSet::new();
    for at in code {
        let class = at.code & 7;
        // A load has its address in the source, a store in the destination.
        let base = if class == LOAD {
            at.src_reg()
        } else {
            at.dst_reg()
        };
        let offset = if MEMORY.contains(&class) && base == FRAME {
            i32::from(at.off)
        } else if at.code == ADD && copies.contains(&at.dst_reg()) {
            at.imm
        } else {
            0
        };
        deepest = deepest.max(usize::try_from(-offset).unwrap_or_default());
        if at.code == MOVE && at.src_reg() == FRAME {
            copies.insert(at.dst_reg());
        } else if class <= LOAD || class == ADD & 7 {
            copies.remove(&at.dst_reg());
        }
    }
    deepest
}

/// Where functions begin, the program first.
fn functions(code: &[bpf_insn]) -> BTreeSet<usize> {
    let called = (0..code.len()).filter_map(|at| callee(code, at));
    called.chain([0]).collect()
}

fn callee(code: &[bpf_insn], at: usize) -> Option<usize> {
    let call = (code[at].code == CALL && code[at].src_reg() == OF_PROGRAM).then_some(code[at])?;
    (at + 1).checked_add_signed(isize::try_from(call.imm).expect("a distance"))
}

/// The most that a function takes with all that it calls.
fn depth(code: &[bpf_insn], begins: &BTreeSet<usize>, function: usize) -> usize {
    let end = begins
        .range(function + 1..)
        .next()
        .copied()
        .unwrap_or(code.len());
    let own = reach(&code[function..end]);
    let called = (function..end).filter_map(|at| callee(code, at));
    let deepest = called.map(|callee| depth(code, begins, callee)).max();
    own.max(1).next_multiple_of(UNIT) + deepest.unwrap_or(0)
}

#[test]
fn programs_fit_the_stack_of_older_kernels() {
    let mut object = Object::parse(OBJECT).expect("the object that `make bpf` built");
    let sections = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    object
        .relocate_calls(&sections)
        .expect("calls within the object");
    let programs = object.programs.iter();
    let depths: BTreeMap<&str, usize> = programs
        .map(|(name, program)| {
            let code = &object.functions[&program.function_key()].instructions;
            (name.as_str(), depth(code, &functions(code), 0))
        })
        .collect();
    assert_eq!(depths.len(), 2, "{depths:?}");
    // Less than what the verdict alone holds on to would be a reader that sees nothing.
    let fits = |depth: &usize| (LIMIT / 2..=LIMIT).contains(depth);
    assert!(depths.values().all(fits), "{depths:?}");
}
