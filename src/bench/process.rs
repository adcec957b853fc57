//! Processor time and memory of processes, and which process listens on a port: from `/proc`, so
//! on Linux only. Elsewhere, and of what runs on another machine, nothing is known.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

/// Processor time that a process has used since it began, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CpuTime {
    /// In its own code.
    pub user_us: u64,
    /// In the kernel, on its behalf.
    pub system_us: u64,
}

impl CpuTime {
    /// All of it.
    pub fn total_us(self) -> u64 {
        self.user_us + self.system_us
    }

    /// What was added since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
        }
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self { user_us: self.user_us + other.user_us, system_us: self.system_us + other.system_us }
    }
}

/// Processes to be measured, by what they are called in a report. Several may have one name: what
/// they use is added up.
#[derive(Clone, Debug, Default)]
pub struct Processes(BTreeMap<String, Vec<u32>>);

impl Processes {
    /// With this process itself under `name`.
    pub fn with_own(name: &str) -> Self {
        Self(BTreeMap::from([(name.to_owned(), vec![std::process::id()])]))
    }

    /// Adds a process; one that has a name already keeps it.
    pub fn add(&mut self, name: &str, pid: u32) {
        if !self.0.values().flatten().any(|known| *known == pid) {
            self.0.entry(name.to_owned()).or_default().push(pid);
        }
    }

    /// Names a process, in the place of what has this name.
    pub fn replace(&mut self, name: &str, pids: Vec<u32>) {
        for known in self.0.values_mut() {
            known.retain(|pid| !pids.contains(pid));
        }
        self.0.insert(name.to_owned(), pids);
        self.0.retain(|_, pids| !pids.is_empty());
    }

    /// Adds who listens at `address`, `host:port`, where that is on this machine and can be seen.
    pub fn add_listener(&mut self, name: &str, address: &str) {
        if let Some(pid) = listener(address) {
            self.add(name, pid);
        }
    }

    /// Names and process ids.
    pub fn ids(&self) -> &BTreeMap<String, Vec<u32>> {
        &self.0
    }

    /// What each has used so far. A process that has ended is left out.
    pub fn cpu(&self) -> BTreeMap<String, CpuTime> {
        let used = |pids: &Vec<u32>| pids.iter().filter_map(|pid| cpu(*pid)).reduce(CpuTime::and);
        self.0.iter().filter_map(|(name, pids)| Some((name.clone(), used(pids)?))).collect()
    }

    /// Resident bytes of what has this name.
    pub fn resident(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.iter().filter_map(|pid| resident(*pid)).reduce(|one, two| one + two)
    }
}

/// Processor time of the whole machine since it was started.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// What was used by anybody.
    pub busy: CpuTime,
    /// What there was, used or not.
    pub all_us: u64,
}

impl Machine {
    /// Up to now.
    pub fn now() -> Option<Self> {
        Self::read(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line of `/proc/stat`: user, nice, system, idle, waiting for a disk, interrupts
    /// (two kinds), stolen by other machines. What is stolen cannot be used: it is in neither.
    fn read(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
        let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
        let [user, nice, system, idle, waiting, interrupts, soft_interrupts, ..] = ticks[..] else {
            return None;
        };
        let tick_us = tick_us();
        let busy = CpuTime {
            user_us: (user + nice) * tick_us,
            system_us: (system + interrupts + soft_interrupts) * tick_us,
        };
        Some(Self { busy, all_us: busy.total_us() + (idle + waiting) * tick_us })
    }

    /// What was added since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            busy: self.busy.since(earlier.busy),
            all_us: self.all_us.saturating_sub(earlier.all_us),
        }
    }

    /// The share that was used, from 0 to 1.
    pub fn share(self) -> f64 {
        self.busy.total_us() as f64 / self.all_us.max(1) as f64
    }
}

/// What each has used between two looks.
pub fn used(
    before: &BTreeMap<String, CpuTime>,
    after: &BTreeMap<String, CpuTime>,
) -> BTreeMap<String, CpuTime> {
    let since =
        |(name, after): (&String, &CpuTime)| Some((name.clone(), after.since(*before.get(name)?)));
    after.iter().filter_map(since).collect()
}

/// The process that listens at `host:port`; none where the host is another machine, nobody
/// listens, or this user may not see who does.
pub fn listener(address: &str) -> Option<u32> {
    let local = address.to_socket_addrs().ok()?.find(|address| is_local(address.ip()))?;
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inodes: Vec<u64> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening(&table, local.port()))
        .collect();
    owner(&inodes)
}

/// Only an address of this machine can be bound.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Inodes of the sockets that listen on `port`, in the words of `/proc/net/tcp`: the second field
/// is the local address and port in hexadecimal, the fourth the state (0A listens), the tenth the
/// inode.
fn listening(table: &str, port: u16) -> Vec<u64> {
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, at) = fields.get(1)?.rsplit_once(':')?;
        let listens = *fields.get(3)? == "0A" && u16::from_str_radix(at, 16).ok()? == port;
        listens.then(|| fields.get(9)?.parse().ok())?
    };
    table.lines().skip(1).filter_map(inode).collect()
}

/// The process that has one of these sockets open; the one that had it first where several do.
fn owner(inodes: &[u64]) -> Option<u32> {
    let names: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let has = |pid: &u32| {
        let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        let mut targets = open.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        targets.any(|target| names.iter().any(|name| target.as_os_str() == name.as_str()))
    };
    let all = fs::read_dir("/proc").ok()?.flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(has).min()
}

fn cpu(pid: u32) -> Option<CpuTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (user, system) = ticks(&stat)?;
    let tick_us = tick_us();
    Some(CpuTime { user_us: user * tick_us, system_us: system * tick_us })
}

fn tick_us() -> u64 {
    1_000_000 / rustix::param::clock_ticks_per_second()
}

/// Fields 14 and 15 of `/proc/PID/stat`, counted behind the name in brackets, which may contain
/// anything.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn sockets_that_listen_on_a_port_are_found_in_the_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 x\n\
            \x20  1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 x\n\
            \x20  2: 00000000:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 x\n";
        assert_eq!(listening(table, 8080), [4711]);
        assert_eq!(listening(table, 3306), [4713]);
        assert!(listening(table, 80).is_empty());
        assert!(listening("nonsense\n1 2 3\n", 80).is_empty());
    }

    #[test]
    fn processor_time_is_read_behind_whatever_the_process_is_called() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 700 30 0 0 20 0 9 0 99 1 2";
        assert_eq!(ticks(stat), Some((700, 30)));
        assert_eq!(ticks("42"), None);
    }

    #[test]
    fn a_machine_is_busy_with_what_is_neither_idle_nor_waiting() {
        let read = |stat| Machine::read(stat).unwrap();
        let before = read("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3\n");
        let after = read("cpu  150 10 120 810 5 3 2 40 0 0\n");
        assert!((after.since(before).share() - 0.85).abs() < 1e-9);
        assert!(Machine::read("nonsense").is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_listens_on_a_port_of_this_machine_is_found() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        assert_eq!(listener(&address), Some(std::process::id()));
        drop(socket);
        assert_eq!(listener(&address), None);
        assert_eq!(listener("192.0.2.1:80"), None, "that is another machine");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_uses_memory_and_is_counted_once() {
        let own = std::process::id();
        let mut processes = Processes::with_own("generator");
        processes.add("holdfast", own);
        assert_eq!(processes.ids().len(), 1);
        assert!(processes.resident("generator").unwrap() > 1024);
        assert!(processes.resident("holdfast").is_none());
        assert!(processes.cpu().contains_key("generator"));
    }
}
