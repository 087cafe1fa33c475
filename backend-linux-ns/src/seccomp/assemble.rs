//! Turns rules into a filter: one binary search over system-call numbers, then a short check.

/// What happens to one system call. All others are allowed.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) number: u32,
    pub(super) action: Action,
}

/// Arguments are compared by their lower 32 bits, as the kernel takes the ones that are checked here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Errno(u16),
    /// `EPERM` if any of the bits is set.
    DenyBits {
        argument: u32,
        bits: u32,
    },
    /// `EPERM` for these values.
    DenyValues {
        argument: u32,
        values: Vec<u32>,
    },
    /// The error for all but these values.
    AllowOnly {
        argument: u32,
        values: Vec<u32>,
        errno: u16,
    },
}

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const NATIVE: u32 = 0;

/// One instruction, its jumps still relative to nothing.
#[derive(Clone, Copy)]
struct Instruction {
    code: u16,
    value: u32,
    yes: Label,
    no: Label,
}

/// Where a jump goes: to the next instruction, or to a place that is known later.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Next,
    Place(usize),
}

#[derive(Default)]
struct Assembler {
    code: Vec<Instruction>,
    /// Where each label lies, once it does.
    places: Vec<Option<usize>>,
}

/// The filter as the kernel takes it.
pub(super) fn assemble(rules: &[Rule]) -> Vec<u8> {
    let mut a = Assembler::default();
    let kill = a.label();
    a.push(LOAD, ARCHITECTURE, Label::Next, Label::Next);
    a.push(JUMP_EQUAL, NATIVE, Label::Next, kill);
    a.push(LOAD, NUMBER, Label::Next, Label::Next);
    // The x32 interface reaches the same calls by other numbers.
    a.push(JUMP_AT_LEAST, 0x4000_0000, kill, Label::Next);

    let mut actions: Vec<(Option<&Action>, Label)> = vec![(None, a.label())];
    let intervals = intervals(rules, &mut actions, &mut a);
    a.search(&intervals);
    for (action, label) in actions {
        a.place(label);
        a.action(action);
    }
    a.place(kill);
    a.push(RETURN, KILL_PROCESS, Label::Next, Label::Next);
    a.encode()
}

/// From which number on which action holds, in ascending order.
fn intervals<'r>(
    rules: &'r [Rule],
    actions: &mut Vec<(Option<&'r Action>, Label)>,
    a: &mut Assembler,
) -> Vec<(u32, Label)> {
    let mut sorted: Vec<&Rule> = rules.iter().collect();
    sorted.sort_by_key(|rule| rule.number);
    sorted.dedup_by_key(|rule| rule.number);
    let allow = actions[0].1;
    let mut intervals = vec![(0, allow)];
    let mut extend = |start: u32, label: Label| {
        if intervals.last().is_some_and(|&(last, _)| last == start) {
            intervals.pop();
        }
        if intervals.last().is_none_or(|&(_, last)| last != label) {
            intervals.push((start, label));
        }
    };
    for rule in sorted {
        let known = actions.iter().find(|(action, _)| *action == Some(&rule.action)).map(|(_, label)| *label);
        let label = known.unwrap_or_else(|| {
            let label = a.label();
            actions.push((Some(&rule.action), label));
            label
        });
        extend(rule.number, label);
        extend(rule.number + 1, allow);
    }
    intervals
}

impl Assembler {
    fn label(&mut self) -> Label {
        self.places.push(None);
        Label::Place(self.places.len() - 1)
    }

    fn place(&mut self, label: Label) {
        if let Label::Place(index) = label {
            self.places[index] = Some(self.code.len());
        }
    }

    fn push(&mut self, code: u16, value: u32, yes: Label, no: Label) {
        self.code.push(Instruction { code, value, yes, no });
    }

    /// Halves the intervals until one is left.
    fn search(&mut self, intervals: &[(u32, Label)]) {
        let (below, above) = intervals.split_at(intervals.len() / 2);
        let Some(&(middle, _)) = above.first() else { return };
        match (below, above) {
            ([], [(_, only)]) => self.push(JUMP, 0, *only, *only),
            ([(_, low)], [(_, high)]) => self.push(JUMP_AT_LEAST, middle, *high, *low),
            _ => {
                let (low, high) = (self.target_of(below), self.target_of(above));
                self.push(JUMP_AT_LEAST, middle, high, low);
                self.descend(below, low);
                self.descend(above, high);
            }
        }
    }

    /// A single interval needs no search of its own.
    fn target_of(&mut self, intervals: &[(u32, Label)]) -> Label {
        match intervals {
            [(_, only)] => *only,
            _ => self.label(),
        }
    }

    fn descend(&mut self, intervals: &[(u32, Label)], label: Label) {
        if intervals.len() > 1 {
            self.place(label);
            self.search(intervals);
        }
    }

    fn action(&mut self, action: Option<&Action>) {
        let load = |argument: u32| (LOAD, ARGUMENTS + 8 * argument);
        let refuse = |errno: u16| ERRNO | u32::from(errno);
        match action {
            None => self.returns(ALLOW),
            Some(Action::Errno(errno)) => self.returns(refuse(*errno)),
            Some(Action::DenyBits { argument, bits }) => {
                self.check(load(*argument), JUMP_BITS, &[*bits], refuse(libc::EPERM as u16), ALLOW);
            }
            Some(Action::DenyValues { argument, values }) => {
                self.check(load(*argument), JUMP_EQUAL, values, refuse(libc::EPERM as u16), ALLOW);
            }
            Some(Action::AllowOnly { argument, values, errno }) => {
                self.check(load(*argument), JUMP_EQUAL, values, ALLOW, refuse(*errno));
            }
        }
    }

    /// Compares what is loaded with each of `values`; `hit` if one matches, `miss` if none does.
    fn check(&mut self, load: (u16, u32), compare: u16, values: &[u32], hit: u32, miss: u32) {
        self.push(load.0, load.1, Label::Next, Label::Next);
        let found = self.label();
        for value in values {
            self.push(compare, *value, found, Label::Next);
        }
        self.returns(miss);
        self.place(found);
        self.returns(hit);
    }

    fn returns(&mut self, value: u32) {
        self.push(RETURN, value, Label::Next, Label::Next);
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.code.len() * 8);
        for (at, instruction) in self.code.iter().enumerate() {
            let distance = |label| match label {
                Label::Next => 0,
                Label::Place(index) => self.places[index].expect("every label is placed") - at - 1,
            };
            let short = |label| u8::try_from(distance(label)).expect("filters are short");
            let (yes, no, value) = match instruction.code {
                JUMP => (0, 0, distance(instruction.yes) as u32),
                _ => (short(instruction.yes), short(instruction.no), instruction.value),
            };
            bytes.extend(instruction.code.to_ne_bytes());
            bytes.extend([yes, no]);
            bytes.extend(value.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    pub(in super::super) enum Verdict {
        Allow,
        Errno(i32),
        Kill,
    }

    /// What the kernel would do: the few instructions that filters here use.
    fn interpret(filter: &[u8], data: &[u32; 16]) -> Verdict {
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let instruction = &filter[at * 8..at * 8 + 8];
            let code = u16::from_ne_bytes([instruction[0], instruction[1]]);
            let (yes, no) = (instruction[2] as usize, instruction[3] as usize);
            let value = u32::from_ne_bytes(instruction[4..8].try_into().unwrap());
            at += 1;
            match code {
                LOAD => accumulator = data[value as usize / 4],
                JUMP => at += value as usize,
                JUMP_EQUAL => at += if accumulator == value { yes } else { no },
                JUMP_AT_LEAST => at += if accumulator >= value { yes } else { no },
                JUMP_BITS => at += if accumulator & value != 0 { yes } else { no },
                RETURN if value == ALLOW => return Verdict::Allow,
                RETURN if value == KILL_PROCESS => return Verdict::Kill,
                RETURN => return Verdict::Errno((value & 0xffff) as i32),
                _ => panic!("instruction {code:#x} is not used"),
            }
        }
    }

    pub(in super::super) fn run(filter: &[u8], number: u32, arguments: [u64; 6]) -> Verdict {
        let mut data = [0; 16];
        (data[0], data[1]) = (number, NATIVE);
        for (index, argument) in arguments.into_iter().enumerate() {
            data[4 + 2 * index] = argument as u32;
        }
        interpret(filter, &data)
    }

    #[test]
    fn the_search_finds_for_every_number_what_the_rules_say() {
        let spread = [0, 1, 2, 7, 40, 41, 42, 99, 100, 300, 435, 436];
        for count in 0..=spread.len() {
            let rules: Vec<Rule> = spread[..count]
                .iter()
                .map(|&number| Rule { number, action: Action::Errno(1 + (number % 3) as u16) })
                .collect();
            let filter = assemble(&rules);
            for number in 0..600 {
                let rule = rules.iter().find(|rule| rule.number == number);
                let expected = rule.map_or(Verdict::Allow, |_| Verdict::Errno(1 + (number % 3) as i32));
                assert_eq!(run(&filter, number, [0; 6]), expected, "{count} rules, number {number}");
            }
        }
    }

    #[test]
    fn a_foreign_architecture_and_foreign_numbers_kill() {
        let filter = assemble(&[]);
        let mut data = [0; 16];
        data[1] = 0x4000_0003; // i386
        assert_eq!(interpret(&filter, &data), Verdict::Kill);
        assert_eq!(run(&filter, 0x4000_0000, [0; 6]), Verdict::Kill);
        assert_eq!(run(&filter, 0, [0; 6]), Verdict::Allow);
    }
}
