/*
 * Who starts when, and how long everything takes: the same for the run without locks and the run with them.
 */

export interface Job {
  name: string
  startAfterMs: number
  /** How long it works on an item. */
  workMs: number
  /** It is killed when it has just claimed its n-th item. */
  killedAtItem?: number
}

// An agent takes a while between reading a file and writing it back.
export const thinkMs = 80
/** From the claim to the kill: long enough for the others to arrive at the lock. */
export const killAfterMs = 400

// Without locks, presence claims its second item while nobody else is between reading and writing. So its claim nearly always
// stays in the file; on a loaded machine, somebody may overwrite it.
export const jobs: Job[] = [
  { name: 'hourly', startAfterMs: 0, workMs: 400 },
  { name: 'ci-watch', startAfterMs: 20, workMs: 410 },
  { name: 'inbox', startAfterMs: 40, workMs: 420 },
  { name: 'presence', startAfterMs: 60, workMs: 610, killedAtItem: 2 },
]
