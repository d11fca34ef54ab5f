/* The door of this room: what the layers above may use; the public names among these are in `lib/work.ts`. */
export { type ConflictError, type DeclareOptions, declareWrites, type Intent, type IntentState, listIntents, renewWrites, withdrawWrites } from './declare.js'
export { bindSlot, checkRule, completeSlot, type EndOptions, failSlot, finite, freeSlot, gate, type GateOptions, type Go, listSlots, renewSlot, type Skip, type SlotOptions, type SlotState } from './gate.js'
export type { Conflict, Policy } from './intents.js'
export { beginLease, extendLease, isLease, isTime, type Lease, overBy } from './lease.js'
export { endSession, forget, ownLock, recall, remember, type Remembered, sessionOf } from './session.js'
export type { Outcome, Recovered } from './slot.js'
export { changeDocument, findWorkspace, findWorkspaceIfAny, FOLDER, initWorkspace, type Kind, logEvent, logLockEvent, nameIn, pathIn, readConfig, readDocument, readEvents, type WorkEvent, type Workspace } from './workspace.js'
