//! The machines of a history: each runs one process at a time, and another after that has ended.

use crate::broker::SimBroker;
use crate::gate::Gate;
use crate::store::SimStore;
use crate::world::{Life, World, pass};
use holdfast::backlog::Backlog;
use holdfast::context::{Context, Policy};
use holdfast::domain::Shard;
use holdfast::ingress::Ingress;
use holdfast::roles::Role;
use holdfast::{commit, credit, hold, projector, reconciler, relay};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The roles besides ingress, which every process has.
pub const ROLES: [Role; 6] =
    [Role::Relay, Role::Hold, Role::Credit, Role::Commit, Role::Projector, Role::Reconciler];

pub struct Machine {
    pub roles: Vec<Role>,
    /// The process that runs on it, or ran last.
    pub process: usize,
    pub context: Arc<Context>,
    stop: CancellationToken,
}

pub struct Fleet {
    pub world: Arc<World>,
    pub machines: Mutex<Vec<Machine>>,
    pub batch: usize,
    /// Nothing is to be started.
    halted: AtomicBool,
}

/// Times as short as a history, and as coarse as the timers that cost it most.
fn policy(process: usize, batch: usize) -> Policy {
    Policy {
        hold_timeout: Duration::from_secs(8),
        foreign_shard_timeout: Duration::from_millis(500),
        outbox_limit: 1000,
        scan_lag: Duration::from_secs(1),
        reconcile_interval: Duration::from_secs(1),
        full_sweep_interval: Duration::from_secs(6),
        drift_interval: Duration::from_secs(5),
        drift_full_interval: Duration::from_secs(15),
        redrive_backoff: Duration::from_millis(500),
        claim_retention: Duration::from_secs(30 * 86_400),
        default_currency: "USD".parse().expect("a currency"),
        batch,
        outbox_poll: Duration::from_secs(1),
        proposal_expiry: Duration::from_secs(86_400),
        instance: format!("process-{process}"),
    }
}

/// What the roles of a process share.
pub fn context(gate: Gate, batch: usize) -> Context {
    let policy = policy(gate.process, batch);
    let store = Arc::new(SimStore::open(gate.clone()));
    let backlog = Backlog::fresh_for(Duration::from_secs(1));
    Context::new(store, Arc::new(SimBroker { gate }), None, policy, backlog)
}

impl Fleet {
    pub fn new(world: &Arc<World>, batch: usize) -> Arc<Self> {
        let (world, halted) = (world.clone(), AtomicBool::new(false));
        Arc::new(Self { world, machines: Mutex::default(), batch, halted })
    }

    /// A new machine whose process runs these roles for every shard.
    pub fn add(&self, roles: &[Role]) -> usize {
        let (process, context, stop) = self.process(roles);
        let mut machines = self.machines.lock().expect("no panic");
        let machine = machines.len();
        machines.push(Machine { roles: roles.to_vec(), process, context: context.clone(), stop });
        drop(machines);
        self.open_door(machine, context);
        machine
    }

    fn is_down(&self, machine: usize) -> bool {
        let process = self.process_of(machine);
        self.world.lock().lives[process].dead
    }

    /// The process that runs on a machine now.
    pub fn process_of(&self, machine: usize) -> usize {
        self.machines.lock().expect("no panic")[machine].process
    }

    pub fn context_of(&self, machine: usize) -> Arc<Context> {
        self.machines.lock().expect("no panic")[machine].context.clone()
    }

    fn open_door(&self, machine: usize, context: Arc<Context>) {
        let before =
            self.world.doors.lock().expect("no panic").insert(machine, Ingress::new(context));
        drop(before);
    }

    fn close_door(&self, machine: usize) {
        let before = self.world.doors.lock().expect("no panic").remove(&machine);
        drop(before);
    }

    fn process(&self, roles: &[Role]) -> (usize, Arc<Context>, CancellationToken) {
        let process = {
            let mut state = self.world.lock();
            state.lives.push(Life::default());
            state.lives.len() - 1
        };
        let gate = Gate { world: self.world.clone(), process };
        let context = Arc::new(context(gate, self.batch));
        self.world.say(|| format!("process {process} starts with {roles:?}"));
        let stop = CancellationToken::new();
        for role in roles {
            for shard in self.world.map.all_shards() {
                self.run(*role, shard, process, context.clone(), stop.clone());
            }
        }
        (process, context, stop)
    }

    fn run(
        &self,
        role: Role,
        shard: Shard,
        process: usize,
        context: Arc<Context>,
        stop: CancellationToken,
    ) {
        let (world, generation) = (self.world.clone(), context.store.identity().generation);
        tokio::spawn(async move {
            let ended = match role {
                Role::Relay => relay::run(context, shard, stop).await,
                Role::Hold => hold::run(context, shard, stop).await,
                Role::Credit => credit::run(context, shard, stop).await,
                Role::Commit => commit::run(context, shard, stop).await,
                Role::Projector => projector::run(context, shard, stop).await,
                Role::Reconciler => reconciler::run(context, shard, stop).await,
                Role::Ingress => Ok(()),
            };
            let mut state = world.lock();
            let raised = state.databases.iter().any(|at| at.generation.0 != generation);
            if let Err(error) = ended
                && !raised
            {
                world.violate(&mut state, format!("{role} of process {process} ends: {error:#}"));
            }
        });
    }

    /// Ends every process, and starts none until [`Fleet::resume`].
    pub fn halt(&self) {
        self.halted.store(true, Ordering::SeqCst);
        for machine in 0..self.machines.lock().expect("no panic").len() {
            self.close_door(machine);
        }
        let mut state = self.world.lock();
        let state = &mut *state;
        for process in 0..state.lives.len() {
            state.lives[process].dead = true;
            for database in &mut state.databases {
                database.disconnect(process);
            }
            state.log.expel(process, &mut state.dice);
        }
        state.crashed.clear();
    }

    /// Starts a process on every machine.
    pub fn resume(&self) {
        self.halted.store(false, Ordering::SeqCst);
        let machines = self.machines.lock().expect("no panic").len();
        (0..machines).for_each(|machine| self.restart(machine));
    }

    /// Starts a new process on a machine in place of the one that ended.
    pub fn restart(&self, machine: usize) {
        if self.halted.load(Ordering::SeqCst) || !self.is_down(machine) {
            return;
        }
        let roles = self.machines.lock().expect("no panic")[machine].roles.clone();
        let (process, context, stop) = self.process(&roles);
        {
            let mut machines = self.machines.lock().expect("no panic");
            let at = &mut machines[machine];
            (at.process, at.context, at.stop) = (process, context.clone(), stop);
        }
        self.open_door(machine, context);
    }

    /// Stops a process as a deployment does, and starts the next one.
    pub async fn roll(&self, machine: usize) {
        let (process, stop) = {
            let machines = self.machines.lock().expect("no panic");
            (machines[machine].process, machines[machine].stop.clone())
        };
        self.close_door(machine);
        stop.cancel();
        let grace = self.world.lock().dice.millis(50, 2000);
        pass(grace).await;
        {
            let mut state = self.world.lock();
            let state = &mut *state;
            if std::mem::replace(&mut state.lives[process].dead, true) {
                return;
            }
            for database in &mut state.databases {
                database.disconnect(process);
            }
            state.log.expel(process, &mut state.dice);
        }
        self.restart(machine);
    }

    /// Starts what crashed again, for as long as the history lasts.
    pub async fn supervise(self: Arc<Self>) {
        loop {
            let crashed = std::mem::take(&mut self.world.lock().crashed);
            for process in crashed {
                tokio::spawn(self.clone().replace(process));
            }
            self.world.crashes.notified().await;
        }
    }

    async fn replace(self: Arc<Self>, process: usize) {
        let machine = {
            let machines = self.machines.lock().expect("no panic");
            machines.iter().position(|machine| machine.process == process)
        };
        let Some(machine) = machine else { return };
        self.close_door(machine);
        let (session, start) = {
            let mut state = self.world.lock();
            (state.dice.millis(0, 6000), state.dice.millis(100, 4000))
        };
        let world = self.world.clone();
        tokio::spawn(async move {
            pass(session).await;
            let mut state = world.lock();
            let state = &mut *state;
            state.log.expel(process, &mut state.dice);
        });
        pass(start).await;
        self.restart(machine);
    }
}
