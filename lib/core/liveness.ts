import type { ProcessStamp, Stamp } from './stamp.js'
import type { Machine, System } from './system.js'

/**
 * Whether a stamp's holder lives. `unknown` is out of sight: another boot, another pid namespace, no process in the stamp, or a
 * machine on which we cannot see processes at all. Only what is in sight can be dead.
 */
export function liveness(system: System, stamp: Stamp): 'dead' | 'alive' | 'unknown' {
  const here = system.machine()
  if (!here.self || !stamp.processes?.length || !sameBoot(here, stamp) || stamp.pidns !== here.pidns) return 'unknown'
  return stamp.processes.every((each) => isDead(system, each, stamp.timens === here.timens)) ? 'dead' : 'alive'
}

/** Whether the boot clock in a stamp is ours: containers may show an uptime of their own. */
export function sameClock(here: Machine, stamp: Stamp): boolean {
  return sameBoot(here, stamp) && stamp.pidns === here.pidns && stamp.timens === here.timens
}

/** Whether a stamp was written on this machine since it started. */
export function sameBoot(here: Machine, stamp: Stamp): boolean {
  if (here.boot === undefined || stamp.boot === undefined) return false
  if (here.boot === stamp.boot) return true
  // Without a boot id: host@second, and the second is computed from two clocks.
  const [host, second] = here.boot.split('@')
  const [otherHost, otherSecond] = stamp.boot.split('@')
  return second !== undefined && host === otherHost && Math.abs(Number(second) - Number(otherSecond)) <= 5
}

/** Whether one process in sight is dead. A pid that exists and cannot be proven to be another process is alive. */
export function isDead(system: System, { pid, start, tid }: ProcessStamp, startsCompare: boolean): boolean {
  const facts = system.process(pid)
  if (!facts.exists) return true
  if (startsCompare && start !== undefined && facts.start !== undefined && start !== facts.start) return true
  if (!facts.threads) return false
  // kill(2) finds a zombie; a zombie leader's other threads may work on.
  if (facts.zombie && facts.threads.length <= 1) return true
  return tid !== undefined && !facts.threads.includes(tid)
}
