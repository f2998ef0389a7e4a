"""Word lists of the tagger: all closed word classes, and common words of video captions."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CLASSES = {
    "D": "a an the this that these those his her their its my our your some any each every another "
    "no both all several many few much other whose certain various",
    "M": "one two three four five six seven eight nine ten eleven twelve hundred thousand dozen half",
    "P": "in on at by of from with without into onto over under above below between behind before "
    "after near beside during through across around along against towards toward upon inside "
    "outside off out up down about for like per via among within beneath underneath past "
    "throughout alongside beyond except next opposite atop",
    "T": "to",
    "C": "and or but nor while as because if when where until since so although though than that's whereas",
    "X": "is are was were be been being am isn't aren't wasn't weren't do does did don't doesn't "
    "didn't has have had having can could will would shall should may might must can't cannot "
    "won't 's 're",
    "R": "then far straight again also away together back-and-forth very too quite just only still "
    "almost not never always often now here there forward forwards backward backwards leftwards "
    "rightwards upwards downwards upward downward sideways later first finally afterwards "
    "eventually fast well soon twice ahead apart aside indoors outdoors more most less rather "
    "even instead meanwhile simultaneously once",
    "O": "he she it they we i you him them us me himself herself itself themselves who which what "
    "how why whom someone somebody something anyone anything everyone everything nobody nothing "
    "lot lots etc hers theirs mine yours there's it's he's she's they're let's",
}

CLOSED_CLASS = {word: tag for tag, text in _CLASSES.items() for word in text.split()}

ADJECTIVES = _words(
    "red green blue yellow orange purple pink brown black white grey gray golden silver dark light "
    "bright pale colorful colourful big small large little tiny huge long short tall wide narrow "
    "thick thin high low deep old young new fresh hot cold warm cool wet dry clean dirty full "
    "empty open closed fast slow quick happy sad angry funny scary beautiful pretty cute ugly "
    "nice good bad great best same different various own whole main front back left right upper "
    "lower top bottom rough smooth wooden plastic metal electric acoustic digital animated live "
    "male female elderly blonde blond bald shirtless barefoot asleep awake alone busy ready tired "
    "excited nervous surprised local public professional foreign american asian indian chinese "
    "japanese korean african european striped stripy dotted spotted checkered chequered "
    "medium-sized sandy snowy grassy rocky muddy sunny rainy cloudy soft hard heavy loud quiet "
    "delicious raw healthy sick dead alive famous popular modern ancient traditional virtual "
    "sharp flat round square steep crowded outdoor indoor second third last final next"
)

VERBS = _words(
    "run walk play sing dance talk speak say tell show explain describe discuss demonstrate cook "
    "cut chop slice mix stir pour add put place take hold grab pick drop throw catch toss kick "
    "hit punch fight wrestle jump hop leap dive swim surf ski skate skateboard ride drive fly "
    "sail row paddle climb crawl sit stand lie lay sleep wake rest lean kneel bend stretch turn "
    "spin rotate twist roll slide swing shake wave clap cheer laugh smile cry scream shout yell "
    "eat drink sip taste bite chew feed smoke sneeze cough wash clean wipe sweep mop vacuum brush "
    "comb shave dry iron fold hang tidy open close shut lock unlock enter leave exit go come "
    "return arrive move travel follow chase lead push pull lift carry drag bring give hand pass "
    "receive offer sell buy pay make create build construct fix repair assemble install remove "
    "attach connect tie wrap cover fill empty draw paint write read type watch look see stare "
    "gaze observe listen hear feel touch rub pet kiss hug embrace shoot aim point gesture perform "
    "practice practise train exercise lift compete race win lose score celebrate begin start "
    "continue stop finish end try attempt appear disappear vanish fade emerge become grow shrink "
    "expand contract change fall rise sink descend ascend glide float bounce collide bump orbit "
    "circle crash break smash burn melt boil fry bake grill roast peel grate squeeze spread "
    "sprinkle serve season knead use work wear dress undress apply tighten loosen snuggle "
    "introduce interview present review report answer ask sit flip juggle balance tackle dribble "
    "pitch bowl bat tap press click browse scroll film record photograph pose model approach walk "
    "stroll march wander hike jog sprint trot gallop graze sniff bark lick scratch dig plant "
    "water mow rake shovel saw drill hammer sand weld measure check examine inspect adjust set "
    "get keep wait stay remain meet greet shake nod bow help teach learn study sew knit style "
    "curl braid trim blow strum drum conduct chat argue prepare pack unpack search find lose "
    "reach hide seek escape fill rinse soak scrub polish throw pedal steer park load unload join "
    "gather exchange compare comment narrate fish hunt camp display feature contain fasten "
    "unfasten consume awaken transport operate sprint zoom pan tilt stack arrange decorate light "
    "blend whisk crack beat hurl vault tumble"
)

IRREGULAR = _words(
    "ran sang sung danced spoke spoken said told shown cut put took taken held threw thrown caught "
    "fought swam swum rode ridden drove driven flew flown sat stood lay laid slept woke bent spun "
    "swung shook shaken ate eaten drank drunk fed hung shut went gone came brought gave given "
    "sold bought paid made built tied drew drawn wrote written saw seen heard felt shot won lost "
    "began begun became grew grown shrank fell fallen rose risen sank broke broken wore worn kept "
    "met taught found hid hidden got gotten set left blew blown dug thrown spread"
)

PLURALS = _words(
    "people men women children police feet teeth mice geese sheep fish cattle couple crowd team "
    "group"
)

NEVER_VERBS = _words(
    "building ceiling wedding string spring ring king thing wing morning evening clothing railing "
    "crossing earring earrings stocking pudding viking sibling lightning being bed red sled shed "
    "weed seed feed breed speed hundred left building buildings things wings strings"
)

MANNERS = _words("left right back front live low high fast slow close")
"""Adjectives that express manner or direction after a verb."""

NOMINAL = _words("square light dark orange male female blond blonde back front top bottom")
"""Adjectives that are also nouns."""

NEVER_ADVERBS = _words(
    "family belly jelly bully butterfly rally assembly italy july lovely friendly elderly silly "
    "curly"
)
