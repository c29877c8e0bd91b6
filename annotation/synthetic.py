"""Synthetic headlines with true labels, and a simulated annotator, for demos and tests.

A grammar generates the headlines. Each rule lists its alternatives from frequent to rare, so that kinds of disasters
have a long tail as in a real newspaper. Both labels share sentence frames, some `not_related` headlines use the words
of disasters ("fire sale"), and the few `VAGUE` ones could have either label. Places and people are invented.

The labels follow the definition of 'disaster-related': natural and man-made disasters, to humans, animals or
plants, and the aid they call for; not crime, not police work, not memorials.
"""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from storage.errors import PalError
from storage.files.formulas import neutralised, restored

RELATED_SHARE = 0.08  # of all headlines, in expectation
MAX_HEADLINES = 100_000  # beyond this, new distinct texts become too rare

# CAPITALS name another rule; '|' separates alternatives, frequent ones first.
_GRAMMAR_TEXT = """
RELATED = STORY as AFTERMATH | STORY | OBLIQUE | AFTERMATH after DISASTER_EVENT in PLACE | CREATURES | VAGUE
STORY = DISASTER | FRAME_OF_DISASTER | RESPONSE | FRAME_OF_DISASTER | WARFARE
AFTERMATH = death toll rises | thousands flee | homes destroyed | search for survivors goes on |
  residents evacuated | more aid arrives | NUMBER killed | emergency declared | families left homeless |
  NUMBER still missing | victims seek shelter | roads cut | hospitals overwhelmed | town isolated |
  troops called in | schools turned into shelters | looming shortages feared
DISASTER = FLOOD | FIRE | STORM | DROUGHT | QUAKE | WRECK | EPIDEMIC | BLAST | RARE
FLOOD = PLACE road cut by FLOODING | rising river threatens PLACE homes | PLACE under water after FLOODING |
  families stranded by FLOODING near PLACE | levee fails as PLACE river peaks |
  NUMBER homes inundated at PLACE | dam wall bursts above PLACE | PLACE crops drowned in FLOODING
FIRE = bushfire threatens PLACE homes | crews battle blaze near PLACE |
  PLACE bushfire jumps containment lines | NUMBER homes lost in PLACE FIRES | wind change fans PLACE FIRES |
  PLACE under smoke from FIRES | grassfire races towards PLACE farms | PLACE factory gutted by inferno
STORM = cyclone bears down on PLACE | roofs torn off PLACE homes in STORMS |
  thousands without power after STORMS | PLACE cleans up after STORMS | PLACE orchards flattened by STORMS |
  tornado rips through PLACE | hurricane death toll at NUMBER
DROUGHT = drought bites PLACE farmers | PLACE dams run dry in drought | drought declared in PLACE |
  PLACE graziers hand feed dying stock | heatwave kills NUMBER in PLACE | crops wither in PLACE heatwave |
  hunger spreads in PLACE famine | famine looms as rains fail again
QUAKE = quake rocks PLACE | NUMBER dead in PLACE earthquake | aftershocks rattle PLACE survivors |
  tsunami alert for PLACE coast | landslide buries PLACE village | volcano forces PLACE villagers out |
  avalanche hits PLACE ski field
WRECK = NUMBER feared dead in PLACE plane crash | ferry sinks off PLACE | train derails near PLACE |
  NUMBER missing as boat capsizes | bus plunge kills NUMBER near PLACE |
  trawler lost in heavy seas off PLACE | helicopter goes down near PLACE
EPIDEMIC = cholera spreads in PLACE camps | epidemic kills NUMBER in PLACE |
  PLACE outbreak claims more lives | measles outbreak closes PLACE border | deadly fever reaches PLACE |
  PLACE quarantined as virus toll rises
BLAST = explosion traps NUMBER miners at PLACE | gas leak empties PLACE streets |
  PLACE refinery blast kills NUMBER | oil spill nears PLACE beaches | chemical cloud drifts over PLACE |
  PLACE tower block collapses | radiation leak feared at PLACE plant
RARE = locusts swarm over PLACE wheat | black frost ruins PLACE vineyards |
  NUMBER crushed in PLACE stadium stampede | hail wipes out PLACE cherries | sinkhole swallows PLACE houses |
  king tide washes away PLACE homes | mudslide blocks PLACE rescue | dust storm chokes PLACE |
  lightning kills NUMBER at PLACE
WARFARE = shelling resumes in PLACE | NUMBER civilians die in PLACE air strike | rebels advance on PLACE |
  PLACE war enters NUMBERTH year | refugees flee PLACE fighting | ceasefire collapses in PLACE |
  suicide bomber hits PLACE market
CREATURES = NUMBER whales stranded at PLACE | fish die in PLACE river | blight destroys PLACE potatoes |
  bird flu found on PLACE farm | cattle plague reaches PLACE | oiled penguins wash up at PLACE |
  koalas burned near PLACE | coral dying off PLACE | mystery fungus kills PLACE forests |
  bees vanish from PLACE hives | starving kangaroos enter PLACE
RESPONSE = aid reaches PLACE | PLACE residents told to evacuate | AGENCY airlifts food to PLACE |
  rescuers search for PLACE survivors | appeal launched for PLACE victims | evacuation centre opens at PLACE |
  HELPERS fly to disaster zone | relief money for PLACE farmers | emergency declared in PLACE |
  volunteers fill sandbags at PLACE | donors pledge millions for PLACE survivors |
  AGENCY doctors head to PLACE | army joins PLACE search | vets treat animals hurt in FIRES
OBLIQUE = NUMBER still missing near PLACE | PLACE families sleep in school hall |
  villagers dig through rubble at PLACE | thousands cross border on foot |
  harvest lost after NUMBERTH dry year | tents and blankets reach PLACE | PLACE cut off for NUMBERTH day |
  roofs gone and trees down at PLACE | PLACE hospital overwhelmed by wounded |
  bodies pulled from PLACE waters | trapped workers tap on pipes | rooftop rescue for PLACE family |
  stock losses mount at PLACE | PLACE wells turn to dust | water trucks sent to PLACE |
  hope fades for PLACE crew | toll climbs to NUMBER in PLACE | PLACE pensioner winched to safety |
  sirens send PLACE into cellars | nothing left standing at PLACE | PLACE burns for NUMBERTH night |
  cows swim for high ground | silence from PLACE mine shaft | PLACE mothers queue for rice |
  beaches black at PLACE | PLACE wakes to ash | ground splits open at PLACE | no word from yacht off PLACE |
  PLACE doctors run out of beds
VAGUE = alert issued for PLACE | residents told to avoid PLACE | emergency crews sent to PLACE |
  NUMBER taken to PLACE hospital
DISASTER_EVENT = FLOODING | FIRES | STORMS | drought | cyclone | earthquake | heatwave | explosion |
  outbreak | famine | plane crash | war | ferry sinking | oil spill | landslide | tsunami | epidemic |
  locust plague | bombing | toxic leak | hailstorm | eruption | mine collapse | ash cloud | bridge collapse |
  algal bloom | crop failure | shipwreck | monsoon | crown fire | rail disaster
FLOODING = flooding | flood | floodwater | deluge | flash flood | torrent | swollen creek
FIRES = bushfires | fires | blaze | wildfire | scrub fire | firestorm
STORMS = storms | storm | gales | cyclone | wild winds | squalls | supercell
HELPERS = nurses | engineers | vets | PLACE firefighters | reservists | pilots
AGENCY = red cross | army | charity | un | navy | coastguard
NOT_RELATED = NEWS | NEWS as OUTLOOK | NEWS
NEWS = POLITICS | SPORT | COURT | BUSINESS | FRAME_OF_NEWS | NEAR_MISS | HEALTH | FRAME_OF_NEWS | TOWN |
  ARTS | NEAR_MISS | RURAL | SCHOOL | WEATHER | SCIENCE | TRAFFIC | TRIBUTE
OUTLOOK = talks fail | costs rise | deadline looms | critics speak out | season starts | fans celebrate |
  families gather | rescue plan rejected | toll road opens | homes sold | search for new chief begins |
  crowds arrive | danger passes
POLITICS = OFFICIAL ACTS NEWS_EVENT | OFFICIAL ACTS PLACE PROJECT | opposition attacks NEWS_EVENT |
  PLACE by election TIMING | parliament debates NEWS_EVENT | SURNAME quits PLACE council |
  SURNAME to lead PARTY | PARTY split over PROJECT | border talks resume in PLACE
SPORT = TEAM beat TEAM in GAME | SURNAME injured before GAME | TEAM sign SURNAME | SURNAME wins PLACE open |
  coach SURNAME defends TEAM | TEAM through to GAME | SURNAME eyes GAME record | TEAM thrash TEAM |
  rain delays GAME at PLACE | SURNAME dropped for GAME
COURT = SURNAME jailed over PLACE CRIME | man charged over PLACE CRIME | police hunt PLACE CRIME suspect |
  jury out in SURNAME case | woman pleads guilty to CRIME | police seize drugs at PLACE |
  NUMBER arrested in PLACE raid | teenager hurt in PLACE CRIME | court hears of PLACE CRIME |
  body found in PLACE home | drink driver caught NUMBER times | missing PLACE man found safe
BUSINESS = GOODS prices rise | FIRM cuts NUMBER jobs | FIRM shares fall | market closes higher on GOODS |
  PLACE mine to reopen | FIRM posts record profit | dollar slips with GOODS price | FIRM buys PLACE plant |
  union rejects FIRM offer | NUMBER jobs lost at PLACE
HEALTH = PLACE hospital needs nurses | study links GOODS to cancer | PLACE surgery waiting list grows |
  OFFICIAL ACTS hospital funding | new vaccine trial at PLACE | obesity rates worry doctors |
  flu shots free at PLACE | ambulance ramping at PLACE hospital
TOWN = PLACE council ACTS PROJECT | PLACE residents oppose PROJECT | PLACE rates to rise |
  volunteers plant trees at PLACE | PLACE shire seeks money for PROJECT | PROJECT opens in PLACE |
  dog attacks worry PLACE | PLACE families want PROJECT
ARTS = PLACE festival draws NUMBER | SURNAME novel wins prize | film shot at PLACE opens |
  band SURNAME tours PLACE | gallery shows SURNAME works | PLACE choir turns NUMBER |
  SURNAME to play lead in musical
RURAL = GOODS growers expect good season | GOODS exports to PLACE resume | PLACE farmers fear GOODS imports |
  PLACE show breaks record | wool clip largest in NUMBER years | fishers oppose PLACE marine park |
  vineyard sold near PLACE | water buyback angers PLACE irrigators
SCHOOL = PLACE teachers strike | university cuts NUMBER courses | PLACE school wins PROJECT |
  students protest at NEWS_EVENT
WEATHER = sunny weekend ahead for PLACE | light rain welcomed at PLACE | PLACE has warmest june day |
  first snow pleases PLACE ski fields | fog delays PLACE flights | showers expected for GAME
SCIENCE = fossil found at PLACE | whales return to PLACE bay | rocket launch delayed |
  rare parrot seen near PLACE | telescope planned for PLACE | researchers map PLACE reef |
  zoo welcomes NUMBER penguins
TRAFFIC = PLACE highway upgrade begins | VAGUE | train fares to rise in PLACE | new ferry for PLACE |
  roadworks slow PLACE traffic | airline adds PLACE flights | speed cameras for PLACE road |
  PLACE bus route to change
TRIBUTE = PLACE marks NUMBER years since DISASTER_EVENT | memorial unveiled for DISASTER_EVENT victims |
  statue honours PLACE war nurse | film recalls PLACE DISASTER_EVENT |
  service remembers those lost in DISASTER_EVENT | museum shows photos of PLACE DISASTER_EVENT
NEAR_MISS = fire sale at PLACE FIRM store | flood of entries for PLACE festival | TEAM storm into GAME |
  police probe fatal crash at PLACE | war of words over PROJECT | shares crash on GOODS fears |
  goal drought ends for TEAM | quake hotel concert sells out | SURNAME under fire over NEWS_EVENT |
  landslide win for PARTY in PLACE | OFFICIAL weathers storm over PROJECT | arson charge over PLACE blaze |
  TEAM sink TEAM in GAME | PLACE driver dies in car crash | fire crews strike over pay |
  avalanche of votes for SURNAME | SURNAME explosion lifts TEAM in GAME | tsunami of debt hits FIRM |
  TEAM rescue late draw | price war hits PLACE supermarkets | GOODS shortage a disaster says FIRM |
  SURNAME hot as volcano on debut | epidemic of graffiti in PLACE | TEAM survivors of GAME scare |
  dust settles on PROJECT | legal aid office opens at PLACE | bomb hoax man fined at PLACE |
  hearing aid clinic for PLACE | man admits lighting PLACE fires | heat turned up on OFFICIAL |
  star burns out before GAME | hunger for success drives TEAM | PLACE families sleep in tents at festival |
  NUMBER still missing from GAME squad | SURNAME digs in for century at PLACE | hope fades for PLACE PROJECT |
  TEAM trapped at bottom of ladder | beds sold at PLACE auction | PLACE night market on high ground |
  mothers queue for PLACE school places | toll rises on PLACE bridge | roof goes on PLACE stadium |
  SURNAME flees TEAM for rivals | emergency funding sought for PLACE choir |
  victims of PLACE fraud seek money | SURNAME wounded by critics
NEWS_EVENT = job cuts | budget | tax plan | rate rise | pay dispute | strike | fare increase | merger |
  funding cuts | water prices | visa rules | gun laws | power prices | fishing limits | housing shortage |
  nurse shortage | poll result | land deal | doping scandal | transfer row | storm of protest |
  flood of complaints | leadership spill | cattle prices | bank closure | school merger | pension changes
FRAME_OF_EVENT = PLACE braces for EVENT | OFFICIAL warns of EVENT | PLACE counts cost of EVENT |
  PLACE hit by EVENT | fears of EVENT in PLACE | PLACE families cope with EVENT |
  OFFICIAL visits PLACE after EVENT | PLACE hurt by EVENT | EVENT the worst in NUMBER years |
  help for PLACE after EVENT | PLACE EVENT crisis deepens | EVENT to cost PLACE millions |
  NUMBER affected by PLACE EVENT | PLACE recovers from EVENT
PLACE = AREA | AREA | SIDE AREA | AREA SPOT
SIDE = north | south | west | upper | central | outer
SPOT = valley | coast | island | hills | bay | district | plains
ACTS = backs | rejects | defends | delays | promises | reviews | questions | abandons | welcomes
PROJECT = pool | bypass | library | stadium | wind farm | marina | bridge | casino | dam | bus plan |
  skate park | solar plant | fire station
GOODS = wheat | gold | milk | oil | beef | coal | wool | sugar | cotton | copper | fruit | timber | rice
GAME = final | derby | semi final | cup tie | opener | second test | relay | replay
CRIME = stabbing | robbery | assault | murder | fraud | shooting | arson | burglary | brawl | siege
PARTY = greens | liberals | labor | nationals | independents | reform party
OFFICIAL = minister | mayor | premier | union | opposition | SURNAME | police chief | bishop | expert
TIMING = called | too close to call | next month | result delayed
NUMBER = two | three | four | five | six | seven | eight | nine | ten | 12 | 15 | 20 | 30 | 50 | 100 | 200
NUMBERTH = third | second | fourth | fifth | sixth
TEAM = wombats | gliders | anvils | lanterns | curlews | millers | ironbarks | mudlarks | quokkas | tinkers |
  magnets | marlins
FIRM = ostrel | wexaco | dunmar bank | pellico | varnel air | tolmac | jorvex | umbri foods | haldane steel
SURNAME = tarvik | ossenby | quillor | brandewick | meskarra | jundley | harvost | lomandez | pettrick |
  oduwale | venzari | strolley | kirrabone | faldane | wexmore | zelwyn
AREA = tellamore | korvale | wendlebrook | barrowmin | jindarra vale | ostermouth | quandilla | port henlow |
  mirrabel | dunvarra | cape torvin | yallabeen | lake corrin | fennimoor | brackenby | ulverdale |
  kessindra | nurrawa | port ashel | wyndolan | tarrabine | grelling | mount ondor | sandrellan | vostrania |
  eskmarra | pellabar | hollowmere | zanduria | orrimba | marrenga | tolvania
"""


def _parse(text: str) -> dict[str, list[list[str]]]:
    """Rules by name; each alternative as its words. `FRAME_OF_X` is `FRAME_OF_EVENT` about an `X_EVENT`."""
    joined = text.strip().replace("\n  ", " ")
    rules = dict(line.split(" = ", 1) for line in joined.splitlines())
    frames = rules.pop("FRAME_OF_EVENT")
    for topic in ("DISASTER", "NEWS"):
        rules[f"FRAME_OF_{topic}"] = frames.replace("EVENT", f"{topic}_EVENT")
    return {name: [option.split() for option in body.split("|")] for name, body in rules.items()}


_GRAMMAR: Mapping[str, list[list[str]]] = _parse(_GRAMMAR_TEXT)


def _write(rule: str, rng: random.Random) -> list[str]:
    """The words of one headline, or of a part of it."""
    options = _GRAMMAR[rule]
    draw = rng.random()  # the only method whose sequence Python promises to keep for a seed
    words: list[str] = []
    for word in options[int(draw * draw * len(options))]:  # squared: favors the first alternatives
        if word in _GRAMMAR:
            words += _write(word, rng)
        else:
            words.append(word)
    return words


def synthetic_headlines(n: int = 20_000, *, seed: int = 0) -> pa.Table:
    """Generate `n` distinct headlines with their true labels.

    Args:
        n: Number of headlines, 1 to `MAX_HEADLINES`.
        seed: The same seed gives the same headlines, on every Python version and platform; the first
            `k` of a longer table are the table of `k`.

    Returns:
        Table of `n` rows with string columns `item_id` ("demo-00001", ...), `text` (lower case, 3 to 10
        words, no text twice) and `label` ("related" for about 8% of the rows, else "not_related").

    Raises:
        PalError: `n` is out of range.

    Example:
        >>> synthetic_headlines(2).column("item_id").to_pylist()
        ['demo-00001', 'demo-00002']
    """
    if not 1 <= n <= MAX_HEADLINES:
        what = f"{n:,} headlines were requested; 1 to {MAX_HEADLINES:,} are available."
        raise PalError(what, hint=f"Use {min(max(n, 1), MAX_HEADLINES)}.")
    rng = random.Random(seed)
    labels: dict[str, str] = {}
    while len(labels) < n:
        label = "related" if rng.random() < RELATED_SHARE else "not_related"
        text = ""
        while not text or text in labels:
            words = _write(label.upper(), rng)
            text = " ".join(words) if 3 <= len(words) <= 10 else ""
        labels[text] = label
    ids = [f"demo-{number:05d}" for number in range(1, n + 1)]
    return pa.table({"item_id": ids, "text": list(labels), "label": list(labels.values())})


def fill_csv(path: Path, labels: Mapping[str, str], *, annotator: str = "oracle", most: int | None = None) -> int:
    """Fill in the label column of a batch file, in all rows or the first `most`; returns how many were filled.

    Args:
        labels: item_id -> label; rows of other items stay empty.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = list(csv.reader(file))
    column = {name: header.index(name) for name in ("item_id", "label", "annotator")}
    n = 0
    for row in rows:
        label = labels.get(restored(row[column["item_id"]]))
        if label is not None and (most is None or n < most):
            row[column["label"]], row[column["annotator"]] = neutralised(label), neutralised(annotator)
            n += 1
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    os.replace(part, path)  # noqa: PTH105
    return n
