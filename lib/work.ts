/**
 * What a lock alone does not give. A mutex ends when its holder is done; that the work *has been done* is a state of its own, which
 * {@link gate} keeps: go, or skip, because somebody is at it or has shipped it. {@link declareWrites} says before a task starts what it is
 * going to write, and finds out who else is.
 *
 * Everything is kept in the `.lockpact` folder of a workspace ({@link initWorkspace}), and what happened in its `events.jsonl`.
 *
 * @module
 */
export { type ConflictError, type DeclareOptions, declareWrites, type Intent, type IntentState, listIntents, renewWrites, withdrawWrites } from './work/index.js'
export { bindSlot, completeSlot, type EndOptions, failSlot, freeSlot, gate, type GateOptions, type Go, listSlots, renewSlot, type Skip, type SlotOptions, type SlotState } from './work/index.js'
export type { Conflict, Outcome, Policy, Recovered } from './work/index.js'
export { initWorkspace, readEvents, type WorkEvent, type Workspace } from './work/index.js'
