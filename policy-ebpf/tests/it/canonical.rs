//! Tables under names that do not depend on numbers, to compare those of two histories.

use std::collections::{BTreeMap, BTreeSet};

use policy_common::tables::rule::number as number_of;
use policy_common::tables::{NO_CLASS, PortKey};
use policy_ebpf::Engine;
use policy_ebpf::mirror::Mirror;

use super::oracle::described;

type Rows = BTreeSet<String>;

/// Names for what has a number: the least of what it is known by.
#[derive(Default)]
struct Names<K: Ord>(BTreeMap<K, String>);

impl<K: Ord + Copy> Names<K> {
    fn know(&mut self, number: K, name: String) {
        let known = self.0.entry(number).or_insert_with(|| name.clone());
        if name < *known {
            *known = name;
        }
    }

    fn of(&self, number: K) -> &str {
        self.0.get(&number).map_or("-", String::as_str)
    }
}

/// Every row of every table. All that has a number has to be reached by a name.
pub(crate) fn canonical(engine: &Engine, tables: &Mirror) -> Rows {
    let mut rows = Rows::new();
    let mut identities = Names::default();
    for (prefix, identity) in &tables.identities {
        identities.know(*identity, prefix.to_string());
    }
    for (prefix, identity) in &tables.identities {
        rows.insert(format!("{prefix} is {}", identities.of(*identity)));
    }
    let mut programs = Names::default();
    for (id, chains) in &tables.endpoints {
        let numbers = [
            chains.ingress,
            chains.egress,
            chains.staged_ingress,
            chains.staged_egress,
        ];
        for (which, number) in ["ingress", "egress", "staged ingress", "staged egress"]
            .iter()
            .zip(numbers)
        {
            if number == 0 {
                rows.insert(format!("{id} {which} none"));
                continue;
            }
            let chain = tables
                .chains
                .get(&number)
                .expect("a chain that an endpoint has");
            rows.insert(format!(
                "{id} {which} length {} {}",
                chain.length,
                described(engine, chain.profile)
            ));
            for (n, stage) in chain.stages.iter().enumerate() {
                if n >= chain.length as usize {
                    assert_eq!(*stage, Default::default());
                    continue;
                }
                let default = described(engine, stage.default);
                rows.insert(format!(
                    "{id} {which} {n} {:b} {:b} {default}",
                    stage.masks, stage.log_masks
                ));
                for (log, program) in [("decides", stage.program), ("logs", stage.log)] {
                    let name = format!("{id} {which} {n} {log}");
                    rows.insert(format!("{name}: {}", program != 0));
                    if program != 0 {
                        programs.know(program, name);
                    }
                }
            }
        }
    }
    let used = |number: &u32| {
        let numbers = tables.endpoints.values();
        let mut all =
            numbers.flat_map(|c| [c.ingress, c.egress, c.staged_ingress, c.staged_egress]);
        all.any(|n| n == *number)
    };
    assert!(tables.chains.keys().all(used), "a chain that nobody has");
    let (mut sources, mut destinations) = (Names::default(), Names::default());
    for (key, classes) in &tables.classes {
        let identity = identities.of(key.identity);
        assert_ne!(identity, "-", "an identity that nobody has: {key:?}");
        assert_ne!(
            programs.of(key.program),
            "-",
            "a program that nobody has: {key:?}"
        );
        assert_ne!((classes.source, classes.destination), (NO_CLASS, NO_CLASS));
        for (names, class) in [
            (&mut sources, classes.source),
            (&mut destinations, classes.destination),
        ] {
            if class != NO_CLASS {
                names.know((key.program, class), identity.to_owned());
            }
        }
    }
    for (key, classes) in &tables.classes {
        rows.insert(format!(
            "{}: {} is {} {}",
            programs.of(key.program),
            identities.of(key.identity),
            sources.of((key.program, classes.source)),
            destinations.of((key.program, classes.destination)),
        ));
    }
    let mut ports = Names::default();
    let place = |key: &PortKey| {
        format!(
            "{} {} {:?}/{}",
            key.side, key.protocol, key.port, key.prefix_len
        )
    };
    let number = |key: &PortKey| u32::from_be_bytes(key.program);
    for (key, class) in tables.ports.iter().filter(|(_, class)| **class != NO_CLASS) {
        ports.know((number(key), key.side, *class), place(key));
    }
    for (key, class) in &tables.ports {
        let name = match *class {
            NO_CLASS => "-",
            class => ports.of((number(key), key.side, class)),
        };
        assert_ne!(
            programs.of(number(key)),
            "-",
            "a program that nobody has: {key:?}"
        );
        rows.insert(format!(
            "{}: {} is {name}",
            programs.of(number(key)),
            place(key)
        ));
    }
    for (key, cell) in &tables.cells {
        let program = programs.of(key.program);
        assert_ne!(program, "-", "a program that nobody has: {key:?}");
        let ends = [
            (key.source, sources.of((key.program, key.source))),
            (
                key.destination,
                destinations.of((key.program, key.destination)),
            ),
            (
                key.source_port,
                ports.of((key.program, PortKey::SOURCE, key.source_port)),
            ),
            (
                key.destination_port,
                ports.of((key.program, PortKey::DESTINATION, key.destination_port)),
            ),
        ];
        assert!(
            ends.iter()
                .all(|(class, name)| (*class == NO_CLASS) == (*name == "-")),
            "{key:?} {ends:?}"
        );
        let names = ends.map(|(_, name)| name);
        rows.insert(format!(
            "{program}: {:b} {names:?} is {} {}",
            key.mask,
            cell.order,
            described(engine, cell.rule)
        ));
        for member in tables
            .lists
            .get(&number_of(cell.rule))
            .into_iter()
            .flatten()
        {
            let rule = described(engine, member.rule);
            rows.insert(format!(
                "{program}: {:b} {names:?} logs {} {rule}",
                key.mask, member.order
            ));
        }
    }
    for number in tables.lists.keys() {
        let mut cells = tables.cells.values();
        let used = cells.any(|cell| number_of(cell.rule) == *number);
        assert!(used, "a list that no cell has");
    }
    rows
}
