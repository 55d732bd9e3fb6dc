// @ts-check
/**
 * The programs of a benchmark: found, started, timed, and all gone when this process is. In JavaScript, as the scripts in
 * bench/ use it without a build.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, statSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * @import { ChildProcessByStdio } from 'node:child_process'
 * @import { AddressInfo } from 'node:net'
 * @import { Readable } from 'node:stream'
 */

const READY_MS_MAX = 10_000
const STOP_MS_MAX = 15_000
const COMPLAINTS_CHARS_MAX = 10_000
/** Daemons live where a user's PATH does not look. */
const DAEMON_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/opt/homebrew/bin']

/**
 * A program that was started.
 *
 * @typedef {object} Program
 * @property {ChildProcessByStdio<null, Readable, Readable>} child
 * @property {string} command
 * @property {string} complaints the end of what it has said on stderr
 */

/**
 * Each leads a process group of its own, so that its children end with it and ^C reaches only us.
 *
 * @type {Set<Program>}
 */
const running = new Set()

/**
 * Where an executable is, or `undefined`.
 *
 * @param {string} command
 */
export function find(command) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...DAEMON_FOLDERS]
  return folders.map((folder) => join(folder, command)).find(isExecutable)
}

/**
 * Where an executable is. Throws with the remedy if it is not installed.
 *
 * @param {string} command
 */
export function installed(command) {
  const path = find(command)
  if (path) return path
  throw new Error(`${command} is not installed; install it to compare with it`)
}

/** @param {string} path */
function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/**
 * Runs a program to its end, and throws if that is not a good one.
 *
 * @param {string} command
 * @param {...string} args
 */
export function run(command, ...args) {
  return ended(launch(command, ...args))
}

/**
 * Waits for a program's end, and throws if that is not a good one.
 *
 * @param {Program} program
 */
export async function ended(program) {
  const { child } = program
  const stdout = text(child.stdout)
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${failure(program)}\n${await stdout}`.trim())
  return { stdout: await stdout, stderr: program.complaints }
}

/**
 * Does something and returns the seconds it took.
 *
 * @param {() => Promise<unknown>} work
 */
export async function timed(work) {
  const startMs = performance.now()
  await work()
  return (performance.now() - startMs) / 1000
}

/**
 * Starts a program that stays: a server.
 *
 * @param {string} command
 * @param {...string} args
 * @returns {Program}
 */
export function launch(command, ...args) {
  const child = spawn(command, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const program = { child, command: [command, ...args].join(' '), complaints: '' }
  child.stderr.setEncoding('utf8').on('data', (data) => {
    program.complaints = (program.complaints + data).slice(-COMPLAINTS_CHARS_MAX)
  })
  if (child.pid !== undefined) running.add(program)
  child.once('exit', () => running.delete(program))
  return program
}

/**
 * Asks a server to end, and makes it.
 *
 * @param {Program} program
 */
export async function stop({ child }) {
  if (hasEnded(child)) return
  const exited = once(child, 'exit')
  signalGroup(child, 'SIGTERM')
  const patience = setTimeout(signalGroup, STOP_MS_MAX, child, 'SIGKILL')
  await exited
  clearTimeout(patience)
}

/** Ends at once whatever still runs. */
export function killAll() {
  for (const { child } of running) signalGroup(child, 'SIGKILL')
}

/**
 * @param {Program['child']} child
 * @param {NodeJS.Signals} signal
 */
function signalGroup({ pid }, signal) {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ESRCH') throw error
  }
}

/**
 * What copies are called: one for each client.
 *
 * @param {number} clients
 */
export function copyNames(clients) {
  return Array.from({ length: clients }, (_, number) => `copy.${number}`)
}

/** A port of the loopback interface that was free a moment ago. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = /** @type {AddressInfo} */ (server.address())
  server.close()
  await once(server, 'close')
  return port
}

/**
 * Waits until the server accepts connections.
 *
 * @param {Program} program
 * @param {number} port
 */
export function accepting(program, port) {
  return ready(program, async () => {
    const socket = connect(port, '127.0.0.1')
    const isOpen = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    return isOpen
  })
}

/**
 * Waits until `isReady`; throws if the program ends before, or takes too long.
 *
 * @param {Program} program
 * @param {() => boolean | Promise<boolean>} isReady
 */
export async function ready(program, isReady) {
  for (const startMs = performance.now(); performance.now() - startMs < READY_MS_MAX; await sleep(20)) {
    if (hasEnded(program.child)) throw new Error(failure(program))
    if (await isReady()) return
  }
  throw new Error(`${program.command} is not ready after ${READY_MS_MAX / 1000} s`)
}

/** @param {Program['child']} child */
function hasEnded({ exitCode, signalCode }) {
  return exitCode !== null || signalCode !== null
}

/** @param {Program} program */
function failure({ command, child, complaints }) {
  return `${command} ended with ${child.signalCode ?? `code ${child.exitCode}`}: ${complaints.trim()}`
}
