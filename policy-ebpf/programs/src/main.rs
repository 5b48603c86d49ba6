//! The programs of an interface: one for each direction, the same at every interface.
//!
//! ```text
//!  wire or workload ──► from_wire ──► host ──► to_wire ──► wire or workload
//!                        │  └── policy_common::verdict::judge ──┘
//!                        └── another workload of the host, to_wire's program asked where it has to be
//! ```
//!
//! All that they decide is in `policy-common`; here is only where it reads and writes. What passes is left to
//! the programs and the routing behind them, or goes from one workload straight to another.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)] // a compiler's barrier

mod frame;
mod maps;
mod world;

use core::mem::replace;

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use policy_common::verdict::judge;
use policy_common::world::World;

use crate::frame::Skb;
use crate::world::Kernel;

/// What the host gets from an interface: of a workload, what that sends.
#[classifier]
#[inline(always)]
pub fn from_wire(context: TcContext) -> i32 {
    run(&context, true)
}

/// What the host puts onto an interface: of a workload, what that gets.
#[classifier]
#[inline(always)]
pub fn to_wire(context: TcContext) -> i32 {
    run(&context, false)
}

#[inline(always)]
fn run(context: &TcContext, received: bool) -> i32 {
    let skb = Skb::new(context);
    let Some(memory) = maps::memory() else {
        return TC_ACT_SHOT;
    };
    // By `from_wire` of another workload, whose frame it still is.
    let asked = if received {
        0
    } else {
        replace(&mut memory.asked, 0)
    };
    let frame = skb.frame(received);
    memory.frame = if asked == 0 {
        frame
    } else {
        frame.put_to(asked)
    };
    let world = Kernel::new(&skb, &mut memory.clock);
    if judge(&world, &skb, &memory.frame, &mut memory.scratch).is_err() {
        return TC_ACT_SHOT;
    }
    if asked != 0 {
        return match world.endpoint(asked) {
            Some(endpoint) => skb.redirect(asked, endpoint),
            None => TC_ACT_SHOT,
        };
    }
    let ask = world.ask.get();
    if ask != 0 {
        memory.asked = ask;
        maps::go_on_with_to_wire(context);
        memory.asked = 0;
    }
    world.answer.get()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No code leads here: a program that could panic would not get past the verifier.
    loop {}
}

/// What the kernel asks of a program that uses its helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
