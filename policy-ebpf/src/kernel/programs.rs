//! The programs: loaded once, put to every interface.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use aya::maps::ProgramArray;
use aya::programs::{Program, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use policy_common::endpoint::{Settings, setting};

use super::error::KernelError;
use super::hooks::{self, Holder, Hook, Place};
use super::maps::{self, Maps, Sizes};
use super::pins;
use super::sys;

/// The programs as they were built; empty when they were not.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/policy.o"));

/// Raised when connections of one version say something else to another.
pub const LAYOUT: u32 = 1;
/// Maps that a new process goes on with, so that connections go on. All the others it fills anew.
const ADOPTED: [&str; 2] = ["CONNECTIONS", "FRAGMENTS"];
/// Cleared where a program cannot go on with another one.
const GOES_ON: &str = "GOES_ON";
/// The map by which one program finds the other.
const TO_WIRE: &str = "TO_WIRE";
/// Set where a frame comes from a test.
const FROM_CONTROL_BUFFER: &str = "FROM_CONTROL_BUFFER";

/// Where things are, and how large.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our directory below a BPF file system: [`model::marks::BPF_DIRECTORY`] but in tests.
    pub directory: PathBuf,
    /// Sizes of maps.
    pub sizes: Sizes,
}

/// The programs, and the maps that they share.
#[derive(Debug)]
pub struct Programs {
    bpf: Ebpf,
    /// The maps.
    pub maps: Maps,
    /// What the process before had as its settings, if there was one.
    pub before: Option<Settings>,
    directory: Option<PathBuf>,
    attached: BTreeMap<u32, String>,
}

impl Programs {
    /// Loads programs and maps, beside those of a process before, which stay in force until
    /// [`Programs::attach`]. The connections of that process are taken over.
    ///
    /// # Errors
    /// The programs were not built, or the kernel refuses them.
    pub fn load(options: &Options) -> Result<Programs, KernelError> {
        let directory = options.directory.join(format!("v{LAYOUT}"));
        pins::make_directory(&directory)?;
        pins::make_directory(&links_of(&options.directory))?;
        let before = pins::settings(&directory.join("GLOBAL"));
        let mut loader = loader(&options.sizes)?;
        for name in ADOPTED {
            pins::drop_if_other(&directory.join(name), name, &options.sizes)?;
            loader.map_pin_path(name, directory.join(name));
        }
        let mut programs =
            Programs::finish(&mut loader, options.sizes, Some(options.directory.clone()))?;
        programs.before = before;
        Ok(programs)
    }

    /// Loads programs that nothing is attached to, with maps of their own: for [`Programs::run`].
    ///
    /// # Errors
    /// As [`Programs::load`].
    pub fn load_for_tests(sizes: &Sizes) -> Result<Programs, KernelError> {
        let mut loader = loader(sizes)?;
        loader.override_global(FROM_CONTROL_BUFFER, &1u32, true);
        Programs::finish(&mut loader, *sizes, None)
    }

    /// The same as on a kernel where no program can go on with another.
    ///
    /// # Errors
    /// As [`Programs::load`].
    pub fn load_for_tests_apart(sizes: &Sizes) -> Result<Programs, KernelError> {
        let mut loader = loader(sizes)?;
        loader.override_global(FROM_CONTROL_BUFFER, &1u32, true);
        loader.override_global(GOES_ON, &0u32, true);
        Programs::finish(&mut loader, *sizes, None)
    }

    fn finish(
        loader: &mut EbpfLoader<'_>,
        sizes: Sizes,
        directory: Option<PathBuf>,
    ) -> Result<Programs, KernelError> {
        let mut bpf = loader.load(OBJECT)?;
        if let Err(refused) = verify(&mut bpf) {
            // Not every kernel takes a program that has functions and goes on with another one as well.
            loader.override_global(GOES_ON, &0u32, true);
            bpf = loader.load(OBJECT)?;
            verify(&mut bpf).map_err(|_| refused)?;
        }
        join(&mut bpf)?;
        let maps = Maps::take(&mut bpf, sizes)?;
        Ok(Programs {
            bpf,
            maps,
            before: None,
            directory,
            attached: BTreeMap::new(),
        })
    }

    /// Puts both programs to an interface of the namespace of this thread, in the place of those that a process
    /// before has there; `host`: it is the host's own, not a workload's. What the maps say of the interface must be
    /// there already: without it nothing passes.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn attach(&mut self, interface: &str, ifindex: u32, host: bool) -> Result<(), KernelError> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let place = Place {
            directory: &links_of(directory),
            interface,
            ifindex,
        };
        let holder = match host {
            true => Holder::Link,
            false => Holder::Filter,
        };
        // What the workload gets comes first: an answer to what it sends must find the program there.
        let mut programs = classifiers(&mut self.bpf, [Hook::ToWire, Hook::FromWire])?;
        hooks::attach(&mut programs, &place, holder)?;
        self.attached.insert(ifindex, interface.to_owned());
        Ok(())
    }

    /// Whether [`Programs::attach`] has put them to this interface.
    pub fn is_attached(&self, interface: &str, ifindex: u32) -> bool {
        (self.attached.get(&ifindex)).is_some_and(|name| name == interface)
    }

    /// Whether the kernel has a program at a hook; programs for tests are wherever they are asked for.
    pub(super) fn is_at(&self, ifindex: u32, hook: Hook) -> Result<bool, KernelError> {
        let Some(directory) = &self.directory else {
            return Ok(true);
        };
        let place = Place {
            directory: &links_of(directory),
            interface: "",
            ifindex,
        };
        hooks::is_there(&place, hook).map_err(KernelError::Filters)
    }

    /// Takes the programs away from an interface, or forgets one that is gone.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(&mut self, interface: &str, ifindex: u32) -> Result<(), KernelError> {
        self.attached.remove(&ifindex);
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        hooks::detach(&Place {
            directory: &links_of(directory),
            interface,
            ifindex,
        })
    }

    /// Says that every interface has its programs now: the maps of the process before are forgotten, those of this one
    /// are found by the next, and links that nobody attached are ended.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn take_over(&mut self) -> Result<(), KernelError> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let versioned = directory.join(format!("v{LAYOUT}"));
        for (name, map) in self.bpf.maps() {
            if let Some(map) = maps::data(map)
                && !ADOPTED.contains(&name)
                && !name.starts_with('.')
            {
                pins::replace(map, &versioned.join(name))?;
            }
        }
        hooks::end_others(&links_of(directory), &self.attached)?;
        pins::end_other_layouts(directory, LAYOUT)
    }

    /// Removes everything below a directory of [`Options`]: enforcement ends.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn clean_up(directory: &Path) -> Result<(), KernelError> {
        hooks::end_others(&links_of(directory), &BTreeMap::new())?;
        pins::remove_all(directory)
    }

    /// Lets the next process find the settings of this one: the generation of the world goes on from them,
    /// whatever becomes of this process.
    pub(super) fn claim(&self) -> Result<(), KernelError> {
        let map = self.bpf.map("GLOBAL").and_then(maps::data);
        match (&self.directory, map) {
            (Some(directory), Some(map)) => {
                pins::replace(map, &directory.join(format!("v{LAYOUT}")).join("GLOBAL"))
            }
            _ => Ok(()),
        }
    }

    /// Waits until every program has ended that runs now, so that what nothing leads to any more can be removed.
    pub fn settle(&self) {
        if sys::wait_for_programs().is_err() {
            // Programs run for microseconds.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Runs a program on a frame (`BPF_PROG_TEST_RUN`), without any interface.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn run(&self, test: &Test<'_>) -> Result<Ran, KernelError> {
        let control = [
            test.ifindex,
            test.came_from,
            u32::from(test.for_host),
            test.ahead,
        ];
        let program = self.program(test.hook)?;
        let mut frame = test.frame.to_vec();
        let (answer, nanoseconds) =
            sys::test_run(program, &mut frame, control, test.repeat).map_err(KernelError::Run)?;
        // TC_ACT_UNSPEC, TC_ACT_SHOT and TC_ACT_REDIRECT.
        let answer = match answer {
            -1 => Answer::Routed,
            2 => Answer::Dropped,
            7 => Answer::Straight,
            _ => {
                let other = io::Error::other(format!("answer {answer}"));
                return Err(KernelError::Run(other));
            }
        };
        Ok(Ran {
            answer,
            frame,
            nanoseconds,
        })
    }

    fn program(&self, hook: Hook) -> Result<BorrowedFd<'_>, KernelError> {
        let missing = KernelError::NoSuchPart(hook.program());
        match self.bpf.program(hook.program()) {
            Some(aya::programs::Program::SchedClassifier(program)) => {
                Ok(program.fd().map_err(|_| missing)?.as_fd())
            }
            _ => Err(missing),
        }
    }
}

/// What a program answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing passes.
    Dropped,
    /// It is for routing, or for the workload where it was routed to.
    Routed,
    /// It goes straight to another workload.
    Straight,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The answer.
    pub answer: Answer,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
    /// Nanoseconds that a run took.
    pub nanoseconds: u32,
}

/// A frame for [`Programs::run`], of programs that were loaded for tests.
#[derive(Clone, Copy, Debug)]
pub struct Test<'a> {
    /// Which program.
    pub hook: Hook,
    /// The frame, from its Ethernet header.
    pub frame: &'a [u8],
    /// The interface; it need not be there.
    pub ifindex: u32,
    /// The interface that it came in by; 0 where the host made it.
    pub came_from: u32,
    /// Whether it is for the host.
    pub for_host: bool,
    /// Seconds that the clock is ahead.
    pub ahead: u32,
    /// How many times.
    pub repeat: u32,
}

fn loader(sizes: &Sizes) -> Result<EbpfLoader<'static>, KernelError> {
    if OBJECT.is_empty() {
        return Err(KernelError::NoObject);
    }
    let mut loader = EbpfLoader::new();
    for (name, size) in sizes.each() {
        loader.map_max_entries(name, size);
    }
    Ok(loader)
}

/// Has the kernel verify both programs side by side: a workload that comes after a restart waits for it.
fn verify(bpf: &mut Ebpf) -> Result<(), KernelError> {
    let load = |hook: Hook, program: &mut Program| {
        let program = <&mut SchedClassifier>::try_from(program);
        program.and_then(SchedClassifier::load).map_err(|e| {
            let (program, source) = (hook.program(), Box::new(e));
            KernelError::Program { program, source }
        })
    };
    std::thread::scope(|scope| {
        let mut verifiers = Vec::new();
        for (name, program) in bpf.programs_mut() {
            if let Some(hook) = Hook::BOTH.into_iter().find(|h| h.program() == name) {
                verifiers.push((hook, scope.spawn(move || load(hook, program))));
            }
        }
        for (hook, verifier) in verifiers {
            // A defect of the loader is one part that is missing.
            let missing = KernelError::NoSuchPart(hook.program());
            verifier.join().unwrap_or(Err(missing))?;
        }
        Ok(())
    })
}

/// Lets `from_wire` go on with `to_wire`.
fn join(bpf: &mut Ebpf) -> Result<(), KernelError> {
    let [(_, to_wire)] = &classifiers(bpf, [Hook::ToWire])?[..] else {
        return Err(KernelError::NoSuchPart(Hook::ToWire.program()));
    };
    let failed = |source: io::Error| KernelError::Map {
        operation: "write",
        map: TO_WIRE,
        source,
    };
    let to_wire = to_wire.fd().map_err(|e| failed(io::Error::other(e)))?;
    let to_wire = to_wire.try_clone().map_err(failed)?;
    let programs = bpf
        .map_mut(TO_WIRE)
        .ok_or(KernelError::NoSuchPart(TO_WIRE))?;
    let programs = ProgramArray::try_from(programs).map_err(|e| failed(io::Error::other(e)));
    (programs?.set(0, &to_wire, 0)).map_err(|e| failed(io::Error::other(e)))
}

/// The programs of hooks, in their order.
fn classifiers<const N: usize>(
    bpf: &mut Ebpf,
    hooks: [Hook; N],
) -> Result<Vec<(Hook, &mut SchedClassifier)>, KernelError> {
    let mut programs: BTreeMap<&str, &mut Program> = bpf.programs_mut().collect();
    let of = |hook: Hook| {
        let program = programs.remove(hook.program());
        let classifier = program.and_then(|p| p.try_into().ok());
        let classifier = classifier.ok_or(KernelError::NoSuchPart(hook.program()))?;
        Ok((hook, classifier))
    };
    hooks.into_iter().map(of).collect()
}

fn links_of(directory: &Path) -> PathBuf {
    directory.join("links")
}

/// Has the programs of a process before, as far as they can be reached, leave everything to routing.
pub fn route_everything(directory: &Path) {
    let pin = directory.join(format!("v{LAYOUT}")).join("GLOBAL");
    if let Err(e) = pins::clear_setting(&pin, setting::STRAIGHT) {
        tracing::debug!("no settings of a daemon before: {e}");
    }
}

/// Whether the programs were there when this was built.
pub fn is_built() -> bool {
    !OBJECT.is_empty()
}

/// Whether an interface of the namespace of this thread has both programs, of whichever process.
pub fn has_programs(directory: &Path, interface: &str, ifindex: u32) -> bool {
    let place = Place {
        directory: &links_of(directory),
        interface,
        ifindex,
    };
    (Hook::BOTH.into_iter()).all(|hook| hooks::is_there(&place, hook).unwrap_or(false))
}

/// Whether a directory is there with anything of ours.
pub fn is_present(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}
