# The events of an update, as the option `event` gets them: event(number, value). The first ten are those of
# esp_https_ota, numbers included.

START = 0  # begin() was called; None
CONNECTED = 1  # the server answered; the HTTP status
GET_IMG_DESC = 2  # the image's header is here; the ImageInfo
VERIFY_CHIP_ID = 3  # about to be checked; the chip id that the image is for
VERIFY_CHIP_REVISION = 4  # likewise; the least revision, major * 100 + minor
DECRYPT = 5  # a key was found for the encrypted file; the image's size
WRITE_FLASH = 6  # a sector was written; bytes so far
UPDATE_BOOT_PARTITION = 7  # the boot selection was changed; the label of the slot
FINISH = 8  # finish() ends; True when all went well
ABORT = 9  # the update ends before finish(); None
RESUMED = 10  # it goes on with an earlier one; bytes that are there
RETRY = 11  # the connection failed and is made anew; failures since the last progress
REDIRECT = 12  # the server sent it elsewhere; the host
SKIPPED = 13  # a sector held what was to be written; bytes so far
