import { Address, KV_DEFAULT_PORT, XferdError } from '../../../src/index.js'
import { asStrings } from '../../../src/kv/codec.js'
import { openTransport } from '../../../src/kv/connect.js'
import { KvCommand, kvFlags, kvOptions, urlArg, withRemedy } from '../../kv/command.js'
import { Hints } from '../../kv/hints.js'
import { History } from '../../kv/history.js'
import { askPassword } from '../../kv/password.js'
import { Prompt } from '../../kv/prompt.js'
import { runScript } from '../../kv/script.js'
import { Talk } from '../../kv/talk.js'

export class Kv extends KvCommand {
  static override summary = 'Type commands to a key-value store, or pipe them to it.'
  static override description =
    'On a terminal it is a prompt, with history, completion by Tab, and hints; help COMMAND tells what one does, exit or Ctrl-D leaves. ' +
    'A password that is not given is asked for. Quotes and escapes are as in redis-cli: "a\\x00\\n", \'as it is\'. SUBSCRIBE and MONITOR tell what comes until Ctrl-C. What is typed ' +
    'is remembered in ~/.local/state/xferd/kv-history, or in the file that XFERD_KV_HISTORY names, but for passwords.\n\n' +
    'Piped, each line is a command, and what is replied is written as it is. An error that is replied ends it with exit code 1, as ' +
    'with redis-cli -e. With --json, {"reply": …} a line.'
  static override usage = 'kv [URL]'
  static override examples = [
    '<%= config.bin %> kv',
    '<%= config.bin %> kv kv+unix:///run/xferd-kv.sock --database 3',
    "printf 'SET a 1\\nGET a\\n' | <%= config.bin %> kv kv://127.0.0.1:6390",
  ]
  static override args = {
    url: { ...urlArg, required: false, default: `kv://127.0.0.1:${KV_DEFAULT_PORT}` },
  }
  static override flags = kvFlags

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(Kv)
    const url = args.url as string
    const isTyped = process.stdin.isTTY && !this.jsonEnabled()
    for (let options = await kvOptions(flags); ; options = { ...options, password: await askPassword() }) {
      const transport = await openTransport(url, options)
      try {
        if (!isTyped) return await runScript(new Talk(transport, flags.database), this.jsonEnabled())
        const hints = await Hints.ask(new Talk(transport, flags.database, asStrings))
        const prompt = new Prompt(
          new Talk(transport, flags.database),
          hints,
          await History.open(),
          await placeOf(url),
        )
        return await prompt.run()
      } catch (error) {
        const wantsPassword =
          error instanceof XferdError && error.code === 'PERMISSION' && options.password === undefined
        if (!(wantsPassword && isTyped)) withRemedy(error)
      } finally {
        await transport.close()
      }
    }
  }
}

/** `127.0.0.1:6390`, or the path of a socket. */
async function placeOf(url: string): Promise<string> {
  return (await Address.ofListener(url)).replace(/^(kv|xfer)(\+unix)?:\/\//, '')
}
