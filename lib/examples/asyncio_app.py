# main.py: an application of asyncio that goes on working while it updates. Needs boot.py of minimal/.
#
# A message "update" starts an update, "stop" ends it; the next one goes on where it was.

import asyncio
import machine
import sys

import https_ota
from https_ota import aio, events

URL = "https://example.com/micropython.bin"
CA_FILE = "ca.pem"
EVERY_S = 10
RESTART_S = 2  # for the last messages to get out

TOLD = {events.CONNECTED: "connected", events.RESUMED: "goes on at", events.WRITE_FLASH: "written"}


class Broker:
    # In place of an MQTT client (mqtt_as, for example): what you type at the serial console comes in as messages,
    # and what is published is printed there.
    def __init__(self):
        self._console = asyncio.StreamReader(sys.stdin)

    async def publish(self, topic, text):
        print(topic, text)

    async def receive(self):
        text = ""
        while True:
            c = await self._console.read(1)
            if c not in "\r\n":
                text += c
            elif text:
                return text


async def measure(broker):
    while True:
        await broker.publish("device/measured", 42)
        await asyncio.sleep(EVERY_S)


async def upgrade(broker):
    try:
        # `async with` closes the connection when the task is cancelled, wherever that finds it.
        async with aio.OTA(URL, cadata=open(CA_FILE).read()) as session:
            async for event, value in session:
                if event in TOLD:
                    await broker.publish("device/update", "%s %s" % (TOLD[event], value))
            if session.is_complete_data_received():
                await broker.publish("device/update", "restart")
                await asyncio.sleep(RESTART_S)
                machine.reset()
            await broker.publish("device/update", session.refusal or "nothing new")
    except (https_ota.OTAError, OSError) as e:
        await broker.publish("device/update", "failed: %s" % e)


async def obey(broker):
    task = None
    while True:
        message = await broker.receive()
        if message == "update" and (task is None or task.done()):
            task = asyncio.create_task(upgrade(broker))
        elif message == "stop" and task is not None and not task.done():
            task.cancel()
            await broker.publish("device/update", "stopped")


async def main():
    broker = Broker()
    await broker.publish("device/version", https_ota.running_info().version)
    https_ota.confirm()  # it is back at its broker, so it can be updated again
    await asyncio.gather(measure(broker), obey(broker))


https_ota.guard(120)
try:
    asyncio.run(main())
finally:
    aio.abort()  # Ctrl-C ends the loop, not what it was about to do
