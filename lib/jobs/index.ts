/* The door of this room: what the layers above may use; the public names among these are in `lib/jobs.ts`. */
export { nextRun, type Schedule } from './schedule.js'
