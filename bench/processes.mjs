// The programs of a comparison: found, started, timed, and all gone when this process is.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, statSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

const READY_MS_MAX = 10_000
const STOP_MS_MAX = 15_000
const COMPLAINTS_CHARS_MAX = 10_000
/** Daemons live where a user's PATH does not look. */
const DAEMON_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/opt/homebrew/bin']

/** Each leads a process group of its own, so that its children end with it and ^C reaches only us. */
const running = new Set()

/** Where an executable is, or `undefined`. */
export function find(command) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...DAEMON_FOLDERS]
  return folders.map((folder) => join(folder, command)).find(isExecutable)
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/** Runs a program to its end. `seconds` is the wall clock from before it was started until it had exited. */
export async function run(command, ...args) {
  const startMs = performance.now()
  const child = launch(command, ...args)
  const stdout = text(child.stdout)
  child.once('exit', () => {
    child.seconds = (performance.now() - startMs) / 1000
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${failure(child)}\n${await stdout}`.trim())
  return { seconds: child.seconds, stdout: await stdout, stderr: child.complaints }
}

/** Starts a program that stays: a server. */
export function launch(command, ...args) {
  const child = spawn(command, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  child.complaints = ''
  child.stderr.setEncoding('utf8').on('data', (data) => {
    child.complaints = (child.complaints + data).slice(-COMPLAINTS_CHARS_MAX)
  })
  if (child.pid !== undefined) running.add(child)
  child.once('exit', () => running.delete(child))
  return child
}

/** Asks a server to end, and makes it. */
export async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  signalGroup(child, 'SIGTERM')
  const patience = setTimeout(signalGroup, STOP_MS_MAX, child, 'SIGKILL')
  await exited
  clearTimeout(patience)
}

/** Ends at once whatever still runs. */
export function killAll() {
  for (const child of running) signalGroup(child, 'SIGKILL')
}

function signalGroup(child, signal) {
  try {
    process.kill(-child.pid, signal)
  } catch (error) {
    if (error.code !== 'ESRCH') throw error
  }
}

/** A port of the loopback interface that was free a moment ago. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

/** Waits until the server accepts connections. */
export async function accepting(child, port) {
  for (const startMs = performance.now(); performance.now() - startMs < READY_MS_MAX; await sleep(20)) {
    if (child.exitCode !== null) throw new Error(failure(child))
    const socket = connect(port, '127.0.0.1')
    const isOpen = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    if (isOpen) return
  }
  throw new Error(`${child.spawnfile} does not listen on port ${port} after ${READY_MS_MAX / 1000} s`)
}

function failure({ spawnargs, exitCode, signalCode, complaints }) {
  return `${spawnargs.join(' ')} ended with ${signalCode ?? `code ${exitCode}`}: ${complaints.trim()}`
}
