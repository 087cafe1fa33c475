//! System-call filters, in two layers.
//!
//! The *coarse* filter is installed once, in the keeper, and inherited by everything below it; it holds
//! what no process of a sandbox ever needs. The *strict* one is stacked on it in each runner, off every
//! caller's path; it holds what the keeper and the init need but a command must not have. Installing a
//! filter costs about a microsecond per instruction that the kernel has to look at, so both are binary
//! searches, and a run pays for neither.

mod assemble;

use poolyard_exec::Network;

use assemble::{Action, Rule, assemble};

/// How much a command may ask of the kernel. Every profile denies what leaves traces for the next user
/// or widens the attack surface: keyrings, io_uring, bpf, namespaces, mounts, modules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Filter {
    /// For programs that compute: no ptrace, no reading of other processes' memory.
    #[default]
    Judge,
    /// For shells, debuggers and build tools: like `Judge`, with ptrace inside the sandbox.
    Agent,
    /// Only the coarse filter. Nested user namespaces stay forbidden, but much of the kernel is open.
    CoarseOnly,
}

const EPERM: Action = Action::Errno(libc::EPERM as u16);
/// Programs fall back quietly from a call that does not exist.
const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);

/// The filter of the keeper and everything below.
pub(crate) fn coarse() -> Vec<u8> {
    assemble(&coarse_rules())
}

/// The filter on top of it, for commands; empty if there is none.
pub(crate) fn strict(filter: Filter, network: Network) -> Vec<u8> {
    match filter {
        Filter::CoarseOnly => Vec::new(),
        _ => assemble(&strict_rules(filter, network)),
    }
}

fn coarse_rules() -> Vec<Rule> {
    let absent = [
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_userfaultfd,
        libc::SYS_memfd_secret,
    ];
    let forbidden = [
        libc::SYS_acct,
        libc::SYS_adjtimex,
        libc::SYS_bpf,
        libc::SYS_clock_adjtime,
        libc::SYS_clock_settime,
        libc::SYS_delete_module,
        libc::SYS_fanotify_init,
        libc::SYS_finit_module,
        libc::SYS_init_module,
        libc::SYS_kexec_file_load,
        libc::SYS_kexec_load,
        libc::SYS_lookup_dcookie,
        libc::SYS_migrate_pages,
        libc::SYS_move_pages,
        libc::SYS_name_to_handle_at,
        libc::SYS_nfsservctl,
        libc::SYS_open_by_handle_at,
        libc::SYS_perf_event_open,
        libc::SYS_quotactl,
        libc::SYS_quotactl_fd,
        libc::SYS_reboot,
        libc::SYS_settimeofday,
        libc::SYS_swapoff,
        libc::SYS_swapon,
        libc::SYS_syslog,
        libc::SYS_vhangup,
    ];
    let mut rules = rules(&absent, ENOSYS);
    rules.extend(self::rules(&forbidden, EPERM));
    #[cfg(target_arch = "x86_64")]
    rules.extend(self::rules(
        &[
            libc::SYS_iopl,
            libc::SYS_ioperm,
            libc::SYS_modify_ldt,
            libc::SYS_uselib,
            libc::SYS__sysctl,
            libc::SYS_sysfs,
            libc::SYS_ustat,
        ],
        EPERM,
    ));
    rules
}

fn strict_rules(filter: Filter, network: Network) -> Vec<Rule> {
    const NEW_NAMESPACES: u32 = 0x7e02_0080;
    let forbidden = [
        libc::SYS_chroot,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fsopen,
        libc::SYS_fspick,
        libc::SYS_mount,
        libc::SYS_mount_setattr,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_pidfd_getfd,
        libc::SYS_pivot_root,
        libc::SYS_setns,
        libc::SYS_umount2,
        libc::SYS_unshare,
    ];
    let mut rules = rules(&forbidden, EPERM);
    let mut rule = |number: libc::c_long, action| rules.push(Rule { number: number as u32, action });
    rule(libc::SYS_clone, Action::DenyBits { argument: 0, bits: NEW_NAMESPACES });
    // Its flags lie behind a pointer; C libraries fall back to clone.
    rule(libc::SYS_clone3, ENOSYS);
    rule(libc::SYS_prlimit64, Action::AllowOnly { argument: 0, values: vec![0], errno: libc::EPERM as u16 });
    let personalities = vec![0, u32::MAX];
    rule(
        libc::SYS_personality,
        Action::AllowOnly { argument: 0, values: personalities, errno: libc::EPERM as u16 },
    );
    // Pushing characters into a terminal that someone outside reads.
    rule(libc::SYS_ioctl, Action::DenyValues { argument: 1, values: vec![0x5412, 0x541c] });
    let families = families(network);
    rule(
        libc::SYS_socket,
        Action::AllowOnly { argument: 0, values: families, errno: libc::EAFNOSUPPORT as u16 },
    );
    if filter == Filter::Judge {
        rule(libc::SYS_ptrace, EPERM);
        rule(libc::SYS_process_vm_readv, EPERM);
        rule(libc::SYS_process_vm_writev, EPERM);
        rule(libc::SYS_kcmp, EPERM);
        rule(libc::SYS_process_madvise, EPERM);
    }
    rules
}

/// Without a network even failed connections would count in the namespace's statistics, which the next
/// user could read: so there are no internet sockets at all.
fn families(network: Network) -> Vec<u32> {
    let families = match network {
        Network::Off => &[libc::AF_UNIX][..],
        _ => &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK],
    };
    families.iter().map(|&family| family as u32).collect()
}

fn rules(numbers: &[libc::c_long], action: Action) -> Vec<Rule> {
    numbers.iter().map(|&number| Rule { number: number as u32, action: action.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use assemble::tests::{Verdict, run};

    fn errno(filter: &[u8], number: libc::c_long, arguments: [u64; 6]) -> Verdict {
        run(filter, number as u32, arguments)
    }

    #[test]
    fn new_namespaces_are_refused_and_threads_are_not() {
        let filter = strict(Filter::Judge, Network::Off);
        let threads = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u64;
        assert_eq!(errno(&filter, libc::SYS_clone, [threads, 0, 0, 0, 0, 0]), Verdict::Allow);
        let namespaces = [
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWNS,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWCGROUP,
            0x80,
        ];
        for flag in namespaces {
            let flags = threads | flag as u32 as u64;
            let verdict = errno(&filter, libc::SYS_clone, [flags, 0, 0, 0, 0, 0]);
            assert_eq!(verdict, Verdict::Errno(libc::EPERM), "{flag:#x}");
        }
        assert_eq!(errno(&filter, libc::SYS_clone3, [0; 6]), Verdict::Errno(libc::ENOSYS));
    }

    #[test]
    fn without_a_network_only_unix_sockets_are_there() {
        let socket = |network, family: i32| {
            let filter = strict(Filter::Judge, network);
            errno(&filter, libc::SYS_socket, [family as u64, 0, 0, 0, 0, 0])
        };
        assert_eq!(socket(Network::Off, libc::AF_UNIX), Verdict::Allow);
        assert_eq!(socket(Network::Off, libc::AF_INET), Verdict::Errno(libc::EAFNOSUPPORT));
        assert_eq!(socket(Network::Loopback, libc::AF_INET), Verdict::Allow);
        for family in [libc::AF_VSOCK, libc::AF_ALG, libc::AF_PACKET] {
            assert_eq!(socket(Network::Shared, family), Verdict::Errno(libc::EAFNOSUPPORT));
        }
    }

    #[test]
    fn only_the_own_limits_can_be_set_and_only_agents_trace() {
        let judge = strict(Filter::Judge, Network::Off);
        assert_eq!(errno(&judge, libc::SYS_prlimit64, [0; 6]), Verdict::Allow);
        let other = errno(&judge, libc::SYS_prlimit64, [1, 0, 0, 0, 0, 0]);
        assert_eq!(other, Verdict::Errno(libc::EPERM));
        assert_eq!(errno(&judge, libc::SYS_ptrace, [0; 6]), Verdict::Errno(libc::EPERM));
        let agent = strict(Filter::Agent, Network::Off);
        assert_eq!(errno(&agent, libc::SYS_ptrace, [0; 6]), Verdict::Allow);
    }

    #[test]
    fn keyrings_and_io_uring_look_as_if_they_did_not_exist() {
        let filter = coarse();
        for number in [libc::SYS_add_key, libc::SYS_keyctl, libc::SYS_io_uring_setup] {
            assert_eq!(errno(&filter, number, [0; 6]), Verdict::Errno(libc::ENOSYS));
        }
        for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_mount, libc::SYS_clone] {
            assert_eq!(errno(&filter, number, [0; 6]), Verdict::Allow);
        }
    }

    #[test]
    fn filters_are_short_enough_to_be_installed_often() {
        assert!(strict(Filter::Judge, Network::Shared).len() / 8 < 100);
        assert!(coarse().len() / 8 < 120);
    }
}
