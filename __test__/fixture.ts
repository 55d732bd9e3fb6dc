/** What the tests stand on: folders that vanish, servers, a network that can be made to fail, the program itself. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer, connect as dial, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ExecutionContext } from 'ava'
import { type Client, connect, type ServeOptions, type Server, serve } from 'xferd'

export const REPOSITORY = join(__dirname, '../..')
const XFERD = join(REPOSITORY, 'bin/xferd.js')

/** An empty folder that goes with the test. */
export function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'xferd-test-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Writes `bytes` random bytes, and the folders above. */
export function randomFile(path: string, bytes: number): string {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, randomFillSync(Buffer.alloc(bytes)))
  return path
}

export function sameContent(one: string, other: string): boolean {
  return readFileSync(one).equals(readFileSync(other))
}

/** All names below a folder, hidden ones too, sorted. */
export function namesBelow(path: string): string[] {
  return readdirSync(path, { recursive: true, encoding: 'utf8' }).sort()
}

/** Whether a server of this process has begun to receive a file into `root`: it may have no name until it is whole. */
export function receivesInto(root: string): boolean {
  const isWithin = (name: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`).startsWith(`${root}/`)
    } catch {
      return false
    }
  }
  const descriptors = process.platform === 'linux' ? readdirSync('/proc/self/fd') : []
  return descriptors.some(isWithin) || namesBelow(root).length > 0
}

export interface Pair {
  /** An empty folder for the test's own files. */
  here: string
  /** What the server serves. */
  root: string
  server: Server
  client: Client
}

/** A server over an empty root, and a client of it. */
export async function pair(t: ExecutionContext, options: Partial<ServeOptions> = {}): Promise<Pair> {
  const here = folder(t)
  const root = folder(t)
  const server = await serve({ root, listen: ['xfer://127.0.0.1:0'], ...options })
  t.teardown(() => server.close({ graceMs: 0 }))
  const client = await connect(address(server))
  t.teardown(() => client.close())
  return { here, root, server, client }
}

export function address(server: Server): string {
  return server.addresses[0]
}

/** A network between a client and a server that goes wrong. */
export interface Network {
  /** Where to connect to instead. */
  address: string
  /** Lets bytes flow again. */
  heal(): void
}

/** Carries `bytes` to and from `address` and then nothing, with connections left open, until it is healed. */
export function stallingNetwork(t: ExecutionContext, address: string, bytes: number): Promise<Network> {
  let left = bytes
  return network(t, address, (data, from) => {
    left -= data.length
    if (left < 0) from.pause()
  })
}

/** Flips a bit of the byte that goes to `address` after `at` others. */
export function corruptingNetwork(t: ExecutionContext, address: string, at: number): Promise<Network> {
  let offset = 0
  return network(t, address, (data, _from, isToServer) => {
    if (!isToServer) return
    if (offset <= at && at < offset + data.length) data[at - offset] = (data[at - offset] as number) ^ 1
    offset += data.length
  })
}

async function network(
  t: ExecutionContext,
  address: string,
  onData: (data: Buffer, from: Socket, isToServer: boolean) => void,
): Promise<Network> {
  const sockets = new Set<Socket>()
  let healed = false
  const carry = (from: Socket, to: Socket, isToServer: boolean): void => {
    sockets.add(from)
    from.on('data', (data) => {
      if (!healed) onData(data, from, isToServer)
      if (!to.write(data)) from.pause()
    })
    to.on('drain', () => from.resume())
    from.on('end', () => to.end())
    from.on('error', () => {})
    from.on('close', () => to.destroy())
  }
  const relay = createServer({ allowHalfOpen: true }, (inner) => {
    const outer = dial({ port: Number(new URL(address).port), host: '127.0.0.1', allowHalfOpen: true })
    carry(inner, outer, true)
    carry(outer, inner, false)
  })
  relay.listen(0, '127.0.0.1')
  await once(relay, 'listening')
  t.teardown(() => {
    relay.close()
    for (const socket of sockets) socket.destroy()
  })
  return {
    address: `xfer://127.0.0.1:${(relay.address() as { port: number }).port}`,
    heal() {
      healed = true
      for (const socket of sockets) socket.resume()
    },
  }
}

/** Waits until `condition` holds; the test's timeout is the limit. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(20)
}

/** Waits until `measure` gives the same value ten times in a row, and returns that. */
export async function settled(measure: () => number): Promise<number> {
  for (let value = measure(), same = 0; ; ) {
    await sleep(50)
    const next = measure()
    same = next === value ? same + 1 : 0
    value = next
    if (same === 10) return value
  }
}

export interface Outcome {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Runs `xferd` to its end. */
export function xferd(...args: string[]): Promise<Outcome> {
  return outcome(startXferd(...args))
}

export function startXferd(...args: string[]): ChildProcess {
  return startXferdWith({}, ...args)
}

/** The same with these variables in its environment. */
export function startXferdWith(env: Record<string, string>, ...args: string[]): ChildProcess {
  const stdio: ['ignore', 'pipe', 'pipe'] = ['ignore', 'pipe', 'pipe']
  return spawn(process.execPath, [XFERD, ...args], { env: { ...process.env, ...env }, stdio })
}

/** Runs it to its end with this for its stdin. */
export function xferdWith(input: string | Buffer, ...args: string[]): Promise<Outcome> {
  const child = spawn(process.execPath, [XFERD, ...args], { stdio: 'pipe' })
  child.stdin.end(input)
  return outcome(child)
}

/** Runs it on a terminal: Python has one to lend. */
export function startOnTerminal(env: Record<string, string>, ...args: string[]): ChildProcess {
  const lend = 'import pty, sys; pty.spawn(sys.argv[1:])'
  const program = ['-c', lend, process.execPath, XFERD, ...args]
  return spawn('python3', program, { env: { ...process.env, TERM: 'xterm', ...env }, stdio: 'pipe' })
}

/** Runs a program in a process of its own, as an ES module in the checkout unless said otherwise. */
export function runScript(code: string, ...args: string[]): Promise<Outcome> {
  return outcome(startScript(code, ...args))
}

export function startScript(code: string, ...args: string[]): ChildProcess {
  return spawn(process.execPath, ['--input-type=module', '--eval', code, ...args], {
    cwd: REPOSITORY,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

export async function outcome(child: ChildProcess): Promise<Outcome> {
  let stdout = ''
  let stderr = ''
  child.stdout?.on('data', (data) => {
    stdout += data
  })
  child.stderr?.on('data', (data) => {
    stderr += data
  })
  const [code, signal] = await once(child, 'close')
  return { code, signal, stdout, stderr }
}

/** Waits until a child with `--progress jsonl` has moved bytes. */
export async function underWay(child: ChildProcess): Promise<void> {
  let progress = ''
  child.stderr?.on('data', (data) => {
    progress += data
  })
  await until(() => /"bytes":[1-9]/.test(progress))
}

/** The next line of a child's output. */
export async function line(stream: NodeJS.ReadableStream | null): Promise<string> {
  if (!stream) throw new Error('the child has no such stream')
  const lines = createInterface({ input: stream })
  const [first] = await once(lines, 'line')
  return first as string
}

/** `xferd serve --json` over `root` on a free port. */
export async function startServer(
  t: ExecutionContext,
  root: string,
  ...flags: string[]
): Promise<{ child: ChildProcess; address: string; events: Record<string, unknown>[] }> {
  const child = startXferd('serve', root, '--port', '0', '--json', ...flags)
  t.teardown(() => child.kill('SIGKILL'))
  const events: Record<string, unknown>[] = []
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (text) => {
    events.push(JSON.parse(text))
  })
  await until(() => events.length > 0)
  return { child, address: (events[0] as { addresses: string[] }).addresses[0] as string, events }
}
